/// What the policies of the command line are made from.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <lethe/head_rows.hpp>
#include <lethe/pruner_config.hpp>
#include <lethe/query_statistics.hpp>
#include <lethe/unit_keys.hpp>
#include <span>
#include <string_view>

#include "policy_spec.hpp"
#include "pruners.hpp"

namespace decoder {

/// Options, model, and the settings that policies share.
struct Recipe {
  const PolicyOptions& options;
  const ModelConfig& model;
  PolicySpec& spec;

  /// Sets a number where the user gave that setting.
  template <class Number>
  const Recipe& set(std::string_view setting, Number& number) const {
    spec.set(setting, number);
    return *this;
  }

  [[nodiscard]] lethe::PrunerConfig config() const {
    lethe::PrunerConfig config{.layers = model.layers, .capacity = options.budget};
    set("slack_ratio", config.slack_ratio).set("max_lost_mass", config.max_lost_mass);
    return config;
  }

  /// Each KV head keeps a set of its own.
  [[nodiscard]] lethe::PrunerConfig config_by_head() const {
    lethe::PrunerConfig config = this->config();
    config.groups = model.kv_heads;
    config.scope = lethe::Scope::head;
    return config;
  }

  /// A window of recent tokens or queries; at most a quarter of the budget, where the published one
  /// would leave no room for a choice.
  [[nodiscard]] std::size_t window(std::size_t published) const {
    return std::min(published, std::max<std::size_t>(4, options.budget / 4));
  }

  /// Each KV head is scored by itself; a layer keeps one set.
  [[nodiscard]] lethe::PrunerConfig config_of_groups() const {
    lethe::PrunerConfig config = this->config();
    config.groups = model.kv_heads;
    return config;
  }

  [[nodiscard]] lethe::HeadShape heads() const {
    return {.kv_heads = model.kv_heads, .key_dimension = model.head_dim};
  }

  [[nodiscard]] lethe::KeyShape keys() const {
    return {.kv_heads = model.kv_heads,
            .head_dimension = model.head_dim,
            .frequencies = {options.rope_frequencies.begin(), options.rope_frequencies.end()},
            .pairs = rotary_pairs()};
  }

  [[nodiscard]] lethe::QueryHeads queries() const {
    return {.heads = model.heads,
            .frequencies = {options.rope_frequencies.begin(), options.rope_frequencies.end()},
            .pairs = rotary_pairs(),
            .scale = options.scale};
  }

  [[nodiscard]] lethe::RotaryPairs rotary_pairs() const {
    return model.rope_pairs == RopePairs::halves ? lethe::RotaryPairs::halves
                                                 : lethe::RotaryPairs::neighbours;
  }
};

/// A policy with all its defaults.
template <class Policy>
[[nodiscard]] Pruner make(const Recipe& recipe) {
  return Pruner(Policy(recipe.config()));
}

/// A policy of the command line, and how to make it.
struct PolicyEntry {
  NamedPolicy name;
  Pruner (*make)(const Recipe&);
};

// The policies by what they score with; each list is a file of its own, since they take long to
// compile.
[[nodiscard]] std::span<const PolicyEntry> mass_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> window_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> free_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> key_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> value_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> query_policies() noexcept;
[[nodiscard]] std::span<const PolicyEntry> head_policies() noexcept;

}  // namespace decoder
