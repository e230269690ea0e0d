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

constexpr std::array<NamedPolicy, 8> known{{{"none", "Whole cache"},
                                            {"lethe", "Lethe"},
                                            {"h2o", "H2O"},
                                            {"tova", "TOVA"},
                                            {"snapkv", "SnapKV"},
                                            {"streaming", "StreamingLLM"},
                                            {"random", "Random"},
                                            {"supersession", "Supersession"}}};

constexpr std::string_view oracle = "oracle";

template <class Policy, class... Config>
Pruner make(const lethe::PrunerConfig& config, std::size_t pinned, const Config&... own) {
  Policy policy(config, own...);
  policy.pin(pinned);
  return policy;
}

lethe::KeyShape key_shape(const PolicyOptions& options, const ModelConfig& model) {
  const bool halves = model.rope_pairs == RopePairs::halves;
  return {.kv_heads = model.kv_heads,
          .head_dimension = model.head_dim,
          .frequencies = {options.rope_frequencies.begin(), options.rope_frequencies.end()},
          .pairs = halves ? lethe::RotaryPairs::halves : lethe::RotaryPairs::neighbours};
}

/// A window of recent tokens or queries; at most a quarter of the budget, where the published one
/// would leave no room for a choice.
std::size_t scaled_window(std::size_t published, const PolicyOptions& options) {
  return std::min(published, std::max<std::size_t>(4, options.budget / 4));
}

Pruner choose(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  lethe::PrunerConfig config{.layers = model.layers, .capacity = options.budget};
  if (name == "lethe") return make<policies::Lethe>(config, options.pinned);
  if (name == "h2o") return make<policies::H2O>(config, options.pinned);
  if (name == "tova") return make<policies::TOVA>(config, options.pinned);
  if (name == "snapkv") {
    const lethe::SnapKVConfig own{.window = scaled_window(lethe::SnapKVConfig{}.window, options)};
    return make<policies::SnapKV>(config, options.pinned, own);
  }
  if (name == "streaming") return make<policies::StreamingLLM>(config, options.pinned);
  if (name == "supersession") {
    const lethe::SupersessionConfig own{.keys = key_shape(options, model)};
    return make<policies::Supersession>(config, options.pinned, own);
  }
  if (name == oracle) {
    const KnownNeed::Config needs{{options.last_needs.begin(), options.last_needs.end()}};
    return make<Oracle>(config, options.pinned, needs, scaled_window(32, options));
  }
  config.groups = model.kv_heads;
  config.scope = lethe::Scope::head;
  const lethe::RandomAttentionConfig random{
      .recent_tokens = scaled_window(lethe::RandomAttentionConfig{}.recent_tokens, options),
      .seed = options.seed};
  return make<policies::RandomAttention>(config, options.pinned, random);
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
  const auto* found = std::find_if(known.begin(), known.end(),
                                   [policy](const auto& each) { return each.name == policy; });
  if (found != known.end()) return std::string(found->label);
  throw Error("--policy " + one_line(policy) + ": unknown; choose " + policy_list());
}

Pruner make_pruner(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  if (name != oracle || options.last_needs.empty()) policy_label(name);
  if (name == "none") return {};
  try {
    return choose(name, options, model);
  } catch (const std::invalid_argument& error) {
    throw Error("policy " + std::string(name) + " cannot work with a budget of " +
                std::to_string(options.budget) + " tokens, " + std::to_string(options.pinned) +
                " of them pinned: give a larger budget (" + error.what() + ")");
  }
}

}  // namespace decoder
