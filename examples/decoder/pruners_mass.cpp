#include <lethe/policies.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_inertiakv(const Recipe& recipe) {
  const std::size_t recent = recipe.window(lethe::InertiaKVConfig{}.recent_tokens);
  return Pruner(policies::InertiaKV(recipe.config(), {.recent_tokens = recent}));
}

Pruner make_supersession(const Recipe& recipe) {
  return Pruner(policies::Supersession(recipe.config(), {.keys = recipe.keys()}));
}

constexpr std::array entries{
    PolicyEntry{{"lethe", "Lethe"}, make<policies::Lethe>},
    PolicyEntry{{"h2o", "H2O"}, make<policies::H2O>},
    PolicyEntry{{"supersession", "Supersession"}, make_supersession},
    PolicyEntry{{"inertiakv", "InertiaKV"}, make_inertiakv},
    PolicyEntry{{"mass-per-age", "Mass over age"}, make<policies::MassPerAge>}};

}  // namespace

std::span<const PolicyEntry> mass_policies() noexcept { return entries; }

}  // namespace decoder
