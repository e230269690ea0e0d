#include <lethe/policies/queries.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

void set_own(const Recipe& recipe, lethe::ExpectedAttentionConfig& config) {
  recipe.set("first_tokens", config.first_tokens)
      .set("horizon", config.horizon)
      .set("epsilon", config.epsilon);
}
void set_own(const Recipe& recipe, lethe::TriAttentionConfig& config) {
  recipe.set("offsets", config.offsets);
}
void set_own(const Recipe& recipe, lethe::CapKVConfig& config) {
  recipe.set("sharpness", config.sharpness);
}
void set_own(const Recipe& recipe, lethe::GrowPageConfig& config) {
  recipe.set("budget", config.budget)
      .set("block", config.block)
      .set("short_decay", config.short_decay)
      .set("long_decay", config.long_decay)
      .set("coverage", config.coverage);
}

/// Each KV head keeps a set of its own, as published.
template <class Policy, class Config>
Pruner make_by_head(const Recipe& recipe) {
  Config config{.heads = recipe.heads(), .queries = recipe.queries()};
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("recent_tokens", config.recent_tokens);
  set_own(recipe, config);
  return Pruner(Policy(recipe.config_by_head(), config));
}

constexpr std::array entries{
    PolicyEntry{{"expectedattention", "ExpectedAttention"},
                make_by_head<policies::ExpectedAttention, lethe::ExpectedAttentionConfig>},
    PolicyEntry{{"triattention", "TriAttention"},
                make_by_head<policies::TriAttention, lethe::TriAttentionConfig>},
    PolicyEntry{{"capkv", "CapKV"}, make_by_head<policies::CapKV, lethe::CapKVConfig>},
    PolicyEntry{{"growpage", "GrowPage"}, make_by_head<policies::GrowPage, lethe::GrowPageConfig>}};

}  // namespace

std::span<const PolicyEntry> query_policies() noexcept { return entries; }

}  // namespace decoder
