#include <lethe/policies/queries.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// Each KV head keeps a set of its own, as published.
template <class Policy, class Config>
Pruner make_by_head(const Recipe& recipe) {
  return Pruner(Policy(recipe.config_by_head(),
                       Config{.heads = recipe.heads(),
                              .queries = recipe.queries(),
                              .recent_tokens = recipe.window(Config{}.recent_tokens)}));
}

constexpr std::array entries{
    PolicyEntry{{"expectedattention", "ExpectedAttention"},
                make_by_head<policies::ExpectedAttention, lethe::ExpectedAttentionConfig>},
    PolicyEntry{{"triattention", "TriAttention"},
                make_by_head<policies::TriAttention, lethe::TriAttentionConfig>},
    PolicyEntry{{"capkv", "CapKV"}, make_by_head<policies::CapKV, lethe::CapKVConfig>}};

}  // namespace

std::span<const PolicyEntry> query_policies() noexcept { return entries; }

}  // namespace decoder
