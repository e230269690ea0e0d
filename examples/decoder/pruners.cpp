#include "pruners.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "error.hpp"
#include "one_line.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// What every policy is made from.
struct Recipe {
  const PolicyOptions& options;
  const ModelConfig& model;

  [[nodiscard]] lethe::PrunerConfig config() const {
    return {.layers = model.layers, .capacity = options.budget};
  }

  /// A window of recent tokens or queries; at most a quarter of the budget, where the published one
  /// would leave no room for a choice.
  [[nodiscard]] std::size_t window(std::size_t published) const {
    return std::min(published, std::max<std::size_t>(4, options.budget / 4));
  }

  [[nodiscard]] lethe::KeyShape keys() const {
    const bool halves = model.rope_pairs == RopePairs::halves;
    return {.kv_heads = model.kv_heads,
            .head_dimension = model.head_dim,
            .frequencies = {options.rope_frequencies.begin(), options.rope_frequencies.end()},
            .pairs = halves ? lethe::RotaryPairs::halves : lethe::RotaryPairs::neighbours};
  }
};

template <class Policy>
Pruner make(const Recipe& recipe) {
  return Policy(recipe.config());
}

Pruner make_snapkv(const Recipe& recipe) {
  return policies::SnapKV(recipe.config(), {.window = recipe.window(lethe::SnapKVConfig{}.window)});
}

Pruner make_gkv(const Recipe& recipe) {
  return policies::GKV(recipe.config(), {.window = recipe.window(lethe::GKVConfig{}.window)});
}

Pruner make_inertiakv(const Recipe& recipe) {
  const std::size_t recent = recipe.window(lethe::InertiaKVConfig{}.recent_tokens);
  return policies::InertiaKV(recipe.config(), {.recent_tokens = recent});
}

Pruner make_supersession(const Recipe& recipe) {
  return policies::Supersession(recipe.config(), {.keys = recipe.keys()});
}

Pruner make_random(const Recipe& recipe) {
  lethe::PrunerConfig config = recipe.config();
  config.groups = recipe.model.kv_heads;
  config.scope = lethe::Scope::head;
  const std::size_t recent = recipe.window(lethe::RandomAttentionConfig{}.recent_tokens);
  return policies::RandomAttention(config, {.recent_tokens = recent, .seed = recipe.options.seed});
}

Pruner make_oracle(const Recipe& recipe) {
  const std::span<const std::uint32_t> needs = recipe.options.last_needs;
  return Oracle(recipe.config(), {{needs.begin(), needs.end()}}, recipe.window(32));
}

Pruner make_nothing(const Recipe&) { return {}; }

using Maker = Pruner (*)(const Recipe&);

constexpr std::array<NamedPolicy, 11> known{{{"none", "Whole cache"},
                                             {"lethe", "Lethe"},
                                             {"h2o", "H2O"},
                                             {"tova", "TOVA"},
                                             {"snapkv", "SnapKV"},
                                             {"streaming", "StreamingLLM"},
                                             {"random", "Random"},
                                             {"supersession", "Supersession"},
                                             {"gkv", "G-KV"},
                                             {"inertiakv", "InertiaKV"},
                                             {"mass-per-age", "Mass over age"}}};

/// In the order of `known`.
constexpr std::array<Maker, known.size()> makers{make_nothing,
                                                 make<policies::Lethe>,
                                                 make<policies::H2O>,
                                                 make<policies::TOVA>,
                                                 make_snapkv,
                                                 make<policies::StreamingLLM>,
                                                 make_random,
                                                 make_supersession,
                                                 make_gkv,
                                                 make_inertiakv,
                                                 make<policies::MassPerAge>};

/// The index of a policy; throws Error for an unknown one.
std::size_t index_of(std::string_view policy) {
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i].name == policy) return i;
  }
  throw Error("--policy " + one_line(policy) + ": unknown; choose " + policy_list());
}

Maker maker_of(std::string_view name, const PolicyOptions& options) {
  const bool is_oracle = name == "oracle" && !options.last_needs.empty();
  return is_oracle ? make_oracle : makers[index_of(name)];
}

}  // namespace

std::span<const NamedPolicy> known_policies() noexcept { return known; }

std::string policy_list() {
  std::string list;
  for (const NamedPolicy& each : known) {
    const bool is_last = each.name == known.back().name;
    list += (list.empty() ? "" : is_last ? " or " : ", ") + std::string(each.name);
  }
  return list;
}

std::string policy_label(std::string_view policy) {
  return std::string(known[index_of(policy)].label);
}

Pruner make_pruner(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  const Maker maker = maker_of(name, options);
  try {
    Pruner pruner = maker({options, model});
    with_pruner(pruner, [&](auto& chosen) { chosen.pin(options.pinned); });
    return pruner;
  } catch (const std::invalid_argument& error) {
    throw Error("policy " + std::string(name) + " cannot work with a budget of " +
                std::to_string(options.budget) + " tokens, " + std::to_string(options.pinned) +
                " of them pinned: give a larger budget (" + error.what() + ")");
  }
}

}  // namespace decoder
