#include <lethe/policies/heads.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// The most tokens of one head: as many as the layer's bound allows, unless given.
lethe::PrunerConfig config_of_unequal_heads(const Recipe& recipe) {
  lethe::PrunerConfig config = recipe.config_by_head();
  recipe.set("head_capacity", config.head_capacity);
  return config;
}

Pruner make_adakv(const Recipe& recipe) {
  lethe::AdaKVConfig config;
  config.window = recipe.window(config.window);
  recipe.set("window", config.window).set("pool", config.pool).set("safeguard", config.safeguard);
  return Pruner(policies::AdaKV(config_of_unequal_heads(recipe), config));
}

/// What a round leaves in all layers; a layer's cap is the budget, so none gets more than that.
Pruner make_lava_by_head(const Recipe& recipe) {
  const lethe::PrunerConfig config = config_of_unequal_heads(recipe);
  const std::size_t kept = lethe::kept_at_bound(config.slack_ratio, config.capacity);
  lethe::LAVaByHeadConfig own{.heads = recipe.heads(), .total = config.layers * kept};
  own.window = recipe.window(own.window);
  recipe.set("window", own.window).set("pool", own.pool).set("even_share", own.even_share);
  return Pruner(policies::LAVaByHead(config, own));
}

constexpr std::array entries{PolicyEntry{{"adakv", "AdaKV"}, make_adakv},
                             PolicyEntry{{"lava-by-head", "LAVa by head"}, make_lava_by_head}};

}  // namespace

std::span<const PolicyEntry> head_policies() noexcept { return entries; }

}  // namespace decoder
