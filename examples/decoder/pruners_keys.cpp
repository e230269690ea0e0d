#include <lethe/policies/keys.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// Knorm and KeyDiff.
template <class Policy>
Pruner make_rank(const Recipe& recipe) {
  lethe::KeyRankConfig config{.heads = recipe.heads()};
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("recent_tokens", config.recent_tokens);
  return Pruner(Policy(recipe.config(), config));
}

Pruner make_cur_of(const Recipe& recipe, std::size_t sketch) {
  lethe::CURConfig config{.heads = recipe.heads(), .sketch = sketch, .seed = recipe.options.seed};
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("first_tokens", config.first_tokens)
      .set("recent_tokens", config.recent_tokens)
      .set("block", config.block)
      .set("sketch", config.sketch);
  return Pruner(policies::CUR(recipe.config(), config));
}

Pruner make_cur(const Recipe& recipe) { return make_cur_of(recipe, 0); }

Pruner make_curresample(const Recipe& recipe) {
  return make_cur_of(recipe, 20);  // the published rank
}

Pruner make_lagkv(const Recipe& recipe) {
  lethe::LagKVConfig config{.heads = recipe.heads()};
  config.partition = recipe.window(config.partition);
  recipe.set("first_tokens", config.first_tokens).set("partition", config.partition);
  return Pruner(policies::LagKV(recipe.config(), config));
}

Pruner make_pagedeviction(const Recipe& recipe) {
  lethe::PagedEvictionConfig config{.heads = recipe.heads()};
  config.block = recipe.window(config.block);
  recipe.set("block", config.block);
  return Pruner(policies::PagedEviction(recipe.config(), config));
}

/// Keys are compared as they stand in attention, in each KV head by itself, as published.
Pruner make_rkv(const Recipe& recipe) {
  lethe::KeyShape keys = recipe.keys();
  keys.frequencies.clear();
  lethe::RKVConfig config{.keys = keys};
  config.window = recipe.window(config.window);
  recipe.set("window", config.window)
      .set("pool", config.pool)
      .set("importance_weight", config.importance_weight)
      .set("threshold", config.threshold);
  return Pruner(policies::RKV(recipe.config_by_head(), config));
}

constexpr std::array entries{PolicyEntry{{"knorm", "Knorm"}, make_rank<policies::Knorm>},
                             PolicyEntry{{"keydiff", "KeyDiff"}, make_rank<policies::KeyDiff>},
                             PolicyEntry{{"cur", "CUR"}, make_cur},
                             PolicyEntry{{"curresample", "CURResample"}, make_curresample},
                             PolicyEntry{{"lagkv", "LagKV"}, make_lagkv},
                             PolicyEntry{{"pagedeviction", "PagedEviction"}, make_pagedeviction},
                             PolicyEntry{{"rkv", "R-KV"}, make_rkv}};

}  // namespace

std::span<const PolicyEntry> key_policies() noexcept { return entries; }

}  // namespace decoder
