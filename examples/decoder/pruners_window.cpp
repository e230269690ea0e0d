#include <lethe/policies.hpp>

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

constexpr std::array entries{PolicyEntry{{"tova", "TOVA"}, make<policies::TOVA>},
                             PolicyEntry{{"snapkv", "SnapKV"}, make_snapkv},
                             PolicyEntry{{"gkv", "G-KV"}, make_gkv}};

}  // namespace

std::span<const PolicyEntry> window_policies() noexcept { return entries; }

}  // namespace decoder
