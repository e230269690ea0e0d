#include <lethe/policies.hpp>

#include "pruner_recipe.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

Pruner make_lethe(const Recipe& recipe) {
  lethe::PrunerConfig pruner = recipe.config();
  lethe::LetheConfig config;
  recipe.set("decay", config.decay)
      .set("sparsity_ratio", config.sparsity_ratio)
      .set("recent_ratio", config.recent_ratio)
      .set("first_tokens", config.first_tokens)
      .set("segments", config.segments)
      .set("first_threshold", config.first_threshold)
      .set("round_interval", pruner.round_interval);
  return Pruner(policies::Lethe(pruner, config));
}

/// H2O and its variant without the advantage of old tokens.
template <class Policy, class Config>
Pruner make_half_recent(const Recipe& recipe) {
  Config config;
  recipe.set("recent_ratio", config.recent_ratio);
  return Pruner(Policy(recipe.config(), config));
}

Pruner make_inertiakv(const Recipe& recipe) {
  lethe::InertiaKVConfig config;
  config.recent_tokens = recipe.window(config.recent_tokens);
  recipe.set("decay", config.decay).set("recent_tokens", config.recent_tokens);
  return Pruner(policies::InertiaKV(recipe.config(), config));
}

Pruner make_supersession(const Recipe& recipe) {
  lethe::SupersessionConfig config{.keys = recipe.keys()};
  recipe.set("threshold", config.threshold)
      .set("first_layer_threshold", config.first_layer_threshold)
      .set("penalty", config.penalty)
      .set("slow_share", config.slow_share)
      .set("decay", config.decay)
      .set("recent_ratio", config.recent_ratio)
      .set("first_tokens", config.first_tokens);
  return Pruner(policies::Supersession(recipe.config(), config));
}

constexpr std::array entries{
    PolicyEntry{{"lethe", "Lethe"}, make_lethe},
    PolicyEntry{{"h2o", "H2O"}, make_half_recent<policies::H2O, lethe::H2OConfig>},
    PolicyEntry{{"supersession", "Supersession"}, make_supersession},
    PolicyEntry{{"inertiakv", "InertiaKV"}, make_inertiakv},
    PolicyEntry{{"mass-per-age", "Mass over age"},
                make_half_recent<policies::MassPerAge, lethe::MassPerAgeConfig>}};

}  // namespace

std::span<const PolicyEntry> mass_policies() noexcept { return entries; }

}  // namespace decoder
