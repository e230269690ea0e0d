#include <lethe/policies/values.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_longflow(const Recipe& recipe) {
  return Pruner(policies::LongFlow(recipe.config_of_groups(), {.heads = recipe.heads()}));
}

/// What a round leaves in all layers; a layer's cap is the budget, so none gets more than that.
Pruner make_lava(const Recipe& recipe) {
  const lethe::PrunerConfig config = recipe.config_of_groups();
  const std::size_t kept = lethe::kept_at_bound(config.slack_ratio, config.capacity);
  return Pruner(policies::LAVa(config, {.heads = recipe.heads(),
                                        .total = config.layers * kept,
                                        .window = recipe.window(lethe::LAVaConfig{}.window)}));
}

Pruner make_vase(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::VaSEConfig{}.window);
  return Pruner(
      policies::VaSE(recipe.config_by_head(),
                     {.heads = recipe.heads(), .window = window, .seed = recipe.options.seed}));
}

constexpr std::array entries{PolicyEntry{{"longflow", "LongFlow"}, make_longflow},
                             PolicyEntry{{"lava", "LAVa"}, make_lava},
                             PolicyEntry{{"vase", "VaSE"}, make_vase}};

}  // namespace

std::span<const PolicyEntry> value_policies() noexcept { return entries; }

}  // namespace decoder
