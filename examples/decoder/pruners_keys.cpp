#include <lethe/policies/keys.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

/// Knorm and KeyDiff.
template <class Policy>
Pruner make_rank(const Recipe& recipe) {
  const std::size_t recent = recipe.window(lethe::KeyRankConfig{}.recent_tokens);
  return Pruner(Policy(recipe.config(), {.heads = recipe.heads(), .recent_tokens = recent}));
}

lethe::CURConfig cur_of(const Recipe& recipe) {
  return {.heads = recipe.heads(),
          .recent_tokens = recipe.window(lethe::CURConfig{}.recent_tokens),
          .seed = recipe.options.seed};
}

Pruner make_cur(const Recipe& recipe) {
  return Pruner(policies::CUR(recipe.config(), cur_of(recipe)));
}

Pruner make_curresample(const Recipe& recipe) {
  lethe::CURConfig config = cur_of(recipe);
  config.sketch = 20;  // the published rank
  return Pruner(policies::CUR(recipe.config(), config));
}

Pruner make_lagkv(const Recipe& recipe) {
  const std::size_t partition = recipe.window(lethe::LagKVConfig{}.partition);
  return Pruner(
      policies::LagKV(recipe.config(), {.heads = recipe.heads(), .partition = partition}));
}

Pruner make_pagedeviction(const Recipe& recipe) {
  const std::size_t block = recipe.window(lethe::PagedEvictionConfig{}.block);
  return Pruner(
      policies::PagedEviction(recipe.config(), {.heads = recipe.heads(), .block = block}));
}

/// Keys are compared as they stand in attention, in each KV head by itself, as published.
Pruner make_rkv(const Recipe& recipe) {
  lethe::KeyShape keys = recipe.keys();
  keys.frequencies.clear();
  const std::size_t window = recipe.window(lethe::RKVConfig{}.window);
  return Pruner(policies::RKV(recipe.config_by_head(), {.keys = keys, .window = window}));
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
