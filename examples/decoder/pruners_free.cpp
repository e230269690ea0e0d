#include <lethe/policies.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_random(const Recipe& recipe) {
  const std::size_t recent = recipe.window(lethe::RandomAttentionConfig{}.recent_tokens);
  return Pruner(policies::RandomAttention(recipe.config_by_head(),
                                          {.recent_tokens = recent, .seed = recipe.options.seed}));
}

constexpr std::array entries{
    PolicyEntry{{"streaming", "StreamingLLM"}, make<policies::StreamingLLM>},
    PolicyEntry{{"random", "Random"}, make_random}};

}  // namespace

std::span<const PolicyEntry> free_policies() noexcept { return entries; }

}  // namespace decoder
