#include <lethe/policies.hpp>
#include <lethe/policies/attention.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// Those whose queries that count are also the recent tokens kept.
template <class Policy, class Config>
Pruner make_windowed(const Recipe& recipe) {
  Config config;
  config.window = recipe.window(config.window);
  recipe.set("window", config.window);
  if constexpr (requires { config.pool; }) recipe.set("pool", config.pool);
  if constexpr (requires { config.decay; }) recipe.set("decay", config.decay);
  return Pruner(Policy(recipe.config(), config));
}

/// The published threshold is of one head's attention, the group's mass the sum of all heads'.
Pruner make_lazyeviction(const Recipe& recipe) {
  lethe::LazyEvictionConfig config;
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("threshold", config.threshold).set("recent_tokens", config.recent_tokens);
  config.threshold *= static_cast<float>(recipe.model.heads);
  return Pruner(policies::LazyEviction(recipe.config(), config));
}

Pruner make_raas(const Recipe& recipe) {
  lethe::RaaSConfig config;
  recipe.set("share", config.share);
  return Pruner(policies::RaaS(recipe.config(), config));
}

Pruner make_scissorhands(const Recipe& recipe) {
  lethe::ScissorhandsConfig config;
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("window", config.window).set("recent_tokens", config.recent_tokens);
  return Pruner(policies::Scissorhands(recipe.config(), config));
}

Pruner make_keyformer(const Recipe& recipe) {
  lethe::KeyformerConfig config{.seed = recipe.options.seed};
  recipe.set("recent_ratio", config.recent_ratio)
      .set("first_temperature", config.first_temperature)
      .set("last_temperature", config.last_temperature)
      .set("rise", config.rise);
  return Pruner(policies::Keyformer(recipe.config_by_head(), config));
}

Pruner make_dms(const Recipe& recipe) {
  lethe::DMSConfig config;
  config.window = recipe.window(config.window);
  recipe.set("window", config.window)
      .set("threshold", config.threshold)
      .set("decay", config.decay)
      .set("first_tokens", config.first_tokens);
  return Pruner(policies::DMS(recipe.config(), config));
}

/// What a round leaves in all layers; a layer's cap is the budget, so none gets more than that.
Pruner make_cake(const Recipe& recipe) {
  const lethe::PrunerConfig config = recipe.config_of_groups();
  const std::size_t kept = lethe::kept_at_bound(config.slack_ratio, config.capacity);
  lethe::CAKEConfig own{.heads = recipe.model.heads, .total = config.layers * kept};
  own.window = recipe.window(own.window);
  recipe.set("window", own.window)
      .set("pool", own.pool)
      .set("variance_weight", own.variance_weight)
      .set("entropy_temperature", own.entropy_temperature)
      .set("variance_temperature", own.variance_temperature);
  return Pruner(policies::CAKE(config, own));
}

Pruner make_chunkkv(const Recipe& recipe) {
  lethe::ChunkKVConfig config;
  config.chunk = recipe.window(config.chunk);
  config.window = recipe.window(config.window);
  recipe.set("chunk", config.chunk).set("window", config.window).set("pool", config.pool);
  return Pruner(policies::ChunkKV(recipe.config(), config));
}

Pruner make_block_h2o(const Recipe& recipe) {
  lethe::BlockH2OConfig config;
  config.block = recipe.window(config.block);
  recipe.set("block", config.block);
  config.first_tokens = config.recent_tokens = config.block;
  recipe.set("first_tokens", config.first_tokens)
      .set("recent_tokens", config.recent_tokens)
      .set("pool", config.pool);
  return Pruner(policies::BlockH2O(recipe.config(), config));
}

constexpr std::array entries{
    PolicyEntry{{"tova", "TOVA"}, make<policies::TOVA>},
    PolicyEntry{{"snapkv", "SnapKV"}, make_windowed<policies::SnapKV, lethe::SnapKVConfig>},
    PolicyEntry{{"gkv", "G-KV"}, make_windowed<policies::GKV, lethe::GKVConfig>},
    PolicyEntry{{"morphkv", "MorphKV"}, make_windowed<policies::MorphKV, lethe::MorphKVConfig>},
    PolicyEntry{{"rpc", "RPC"}, make_windowed<policies::RPC, lethe::RPCConfig>},
    PolicyEntry{{"cake", "CAKE"}, make_cake},
    PolicyEntry{{"chunkkv", "ChunkKV"}, make_chunkkv},
    PolicyEntry{{"lazyeviction", "LazyEviction"}, make_lazyeviction},
    PolicyEntry{{"raas", "RaaS"}, make_raas},
    PolicyEntry{{"scissorhands", "Scissorhands"}, make_scissorhands},
    PolicyEntry{{"keyformer", "Keyformer"}, make_keyformer},
    PolicyEntry{{"dms", "DMS rule"}, make_dms},
    PolicyEntry{{"block-h2o", "Block H2O"}, make_block_h2o}};

}  // namespace

std::span<const PolicyEntry> window_policies() noexcept { return entries; }

}  // namespace decoder
