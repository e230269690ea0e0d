#include <lethe/policies.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_streaming(const Recipe& recipe) {
  lethe::StreamingLLMConfig config;
  recipe.set("first_tokens", config.first_tokens);
  return Pruner(policies::StreamingLLM(recipe.config(), config));
}

Pruner make_random(const Recipe& recipe) {
  lethe::RandomAttentionConfig config{.seed = recipe.options.seed};
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("recent_tokens", config.recent_tokens);
  return Pruner(policies::RandomAttention(recipe.config_by_head(), config));
}

constexpr std::array entries{PolicyEntry{{"streaming", "StreamingLLM"}, make_streaming},
                             PolicyEntry{{"random", "Random"}, make_random}};

}  // namespace

std::span<const PolicyEntry> free_policies() noexcept { return entries; }

}  // namespace decoder
