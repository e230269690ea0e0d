#include "pruners.hpp"

#include <array>
#include <stdexcept>
#include <string>

#include "error.hpp"

namespace decoder {
namespace {

namespace policies = lethe::policies;

constexpr std::array<std::string_view, 7> names{"none",   "lethe",     "h2o",   "tova",
                                                "snapkv", "streaming", "random"};

[[noreturn]] void refuse_name(std::string_view name) {
  std::string known;
  for (const std::string_view each : names) {
    known += (known.empty() ? "" : each == names.back() ? " or " : ", ") + std::string(each);
  }
  throw Error("unknown policy '" + std::string(name) + "': choose " + known);
}

template <class Policy, class... Config>
Pruner make(const lethe::PrunerConfig& config, std::size_t pinned, const Config&... own) {
  Policy policy(config, own...);
  policy.pin(pinned);
  return policy;
}

Pruner choose(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  lethe::PrunerConfig config{.layers = model.layers, .capacity = options.budget};
  if (name == "lethe") return make<policies::Lethe>(config, options.pinned);
  if (name == "h2o") return make<policies::H2O>(config, options.pinned);
  if (name == "tova") return make<policies::TOVA>(config, options.pinned);
  if (name == "snapkv") return make<policies::SnapKV>(config, options.pinned);
  if (name == "streaming") return make<policies::StreamingLLM>(config, options.pinned);
  if (name != "random") refuse_name(name);
  config.groups = model.kv_heads;
  config.scope = lethe::Scope::head;
  const lethe::RandomAttentionConfig random{.seed = options.seed};
  return make<policies::RandomAttention>(config, options.pinned, random);
}

}  // namespace

std::span<const std::string_view> policy_names() noexcept { return names; }

Pruner make_pruner(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  if (name == "none") return {};
  try {
    return choose(name, options, model);
  } catch (const std::invalid_argument& error) {
    throw Error("policy " + std::string(name) + " cannot work with a budget of " +
                std::to_string(options.budget) + " tokens, " + std::to_string(options.pinned) +
                " of them pinned: give a larger budget (" + error.what() + ")");
  }
}

}  // namespace decoder
