#include <lethe/policies.hpp>
#include <lethe/policies/attention.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_snapkv(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::SnapKVConfig{}.window);
  return Pruner(policies::SnapKV(recipe.config(), {.window = window}));
}

Pruner make_gkv(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::GKVConfig{}.window);
  return Pruner(policies::GKV(recipe.config(), {.window = window}));
}

/// The published threshold is of one head's attention, the group's mass the sum of all heads'.
Pruner make_lazyeviction(const Recipe& recipe) {
  const lethe::LazyEvictionConfig published;
  return Pruner(policies::LazyEviction(
      recipe.config(), {.threshold = published.threshold * static_cast<float>(recipe.model.heads),
                        .recent_tokens = recipe.window(published.recent_tokens)}));
}

Pruner make_scissorhands(const Recipe& recipe) {
  const std::size_t recent = recipe.window(lethe::ScissorhandsConfig{}.recent_tokens);
  return Pruner(policies::Scissorhands(recipe.config(), {.recent_tokens = recent}));
}

Pruner make_keyformer(const Recipe& recipe) {
  return Pruner(policies::Keyformer(recipe.config_by_head(), {.seed = recipe.options.seed}));
}

Pruner make_dms(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::DMSConfig{}.window);
  return Pruner(policies::DMS(recipe.config(), {.window = window}));
}

Pruner make_morphkv(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::MorphKVConfig{}.window);
  return Pruner(policies::MorphKV(recipe.config(), {.window = window}));
}

Pruner make_rpc(const Recipe& recipe) {
  const std::size_t window = recipe.window(lethe::RPCConfig{}.window);
  return Pruner(policies::RPC(recipe.config(), {.window = window}));
}

/// What a round leaves in all layers; a layer's cap is the budget, so none gets more than that.
Pruner make_cake(const Recipe& recipe) {
  const lethe::PrunerConfig config = recipe.config_of_groups();
  const std::size_t kept = lethe::kept_at_bound(config.slack_ratio, config.capacity);
  return Pruner(policies::CAKE(config, {.heads = recipe.model.heads,
                                        .total = config.layers * kept,
                                        .window = recipe.window(lethe::CAKEConfig{}.window)}));
}

Pruner make_chunkkv(const Recipe& recipe) {
  const lethe::ChunkKVConfig published;
  return Pruner(policies::ChunkKV(recipe.config(), {.chunk = recipe.window(published.chunk),
                                                    .window = recipe.window(published.window)}));
}

Pruner make_block_h2o(const Recipe& recipe) {
  const std::size_t block = recipe.window(lethe::BlockH2OConfig{}.block);
  return Pruner(policies::BlockH2O(
      recipe.config(), {.block = block, .first_tokens = block, .recent_tokens = block}));
}

constexpr std::array entries{PolicyEntry{{"tova", "TOVA"}, make<policies::TOVA>},
                             PolicyEntry{{"snapkv", "SnapKV"}, make_snapkv},
                             PolicyEntry{{"gkv", "G-KV"}, make_gkv},
                             PolicyEntry{{"morphkv", "MorphKV"}, make_morphkv},
                             PolicyEntry{{"rpc", "RPC"}, make_rpc},
                             PolicyEntry{{"cake", "CAKE"}, make_cake},
                             PolicyEntry{{"chunkkv", "ChunkKV"}, make_chunkkv},
                             PolicyEntry{{"lazyeviction", "LazyEviction"}, make_lazyeviction},
                             PolicyEntry{{"raas", "RaaS"}, make<policies::RaaS>},
                             PolicyEntry{{"scissorhands", "Scissorhands"}, make_scissorhands},
                             PolicyEntry{{"keyformer", "Keyformer"}, make_keyformer},
                             PolicyEntry{{"dms", "DMS rule"}, make_dms},
                             PolicyEntry{{"block-h2o", "Block H2O"}, make_block_h2o}};

}  // namespace

std::span<const PolicyEntry> window_policies() noexcept { return entries; }

}  // namespace decoder
