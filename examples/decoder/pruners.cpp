#include "pruners.hpp"

#include <stdexcept>
#include <string>
#include <vector>

#include "error.hpp"
#include "one_line.hpp"
#include "pruner_recipe.hpp"

namespace decoder {
namespace {

Pruner make_nothing(const Recipe&) { return {}; }

Pruner make_oracle(const Recipe& recipe) {
  return Pruner(Oracle(recipe.config(), {*recipe.options.future_looks}, recipe.window(32)));
}

/// All policies, the whole cache first.
const std::vector<PolicyEntry>& entries() {
  static const std::vector<PolicyEntry> all = [] {
    std::vector<PolicyEntry> list{{{"none", "Whole cache"}, make_nothing}};
    for (const auto& part : {mass_policies(), window_policies(), free_policies(), key_policies(),
                             value_policies(), query_policies(), head_policies()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    return list;
  }();
  return all;
}

/// Throws Error for an unknown policy.
const PolicyEntry& entry_of(const PolicySpec& policy,
                            std::string_view option = PolicyOptions{}.policy_option) {
  for (const PolicyEntry& each : entries()) {
    if (each.name.name == policy.name()) return each;
  }
  throw Error(std::string(option) + " " + one_line(policy.name()) + ": unknown; choose " +
              policy_list());
}

/// The oracle where it is told what comes, which no command line does.
auto maker_of(const PolicySpec& policy, const PolicyOptions& options) {
  const bool is_oracle = policy.name() == "oracle" && options.future_looks != nullptr;
  return is_oracle ? make_oracle : entry_of(policy, options.policy_option).make;
}

[[noreturn]] void refuse(const PolicySpec& policy, const PolicyOptions& options,
                         const std::string& reason) {
  throw Error(std::string(options.policy_option) + " " + one_line(policy.text()) +
              ": cannot work with a " + std::string(options.budget_option) + " of " +
              std::to_string(options.budget) + " tokens, " + std::to_string(options.pinned) +
              " of them pinned; give a larger one" +
              (policy.has_settings() ? " or other settings" : "") + " (" + reason + ")");
}

}  // namespace

std::vector<NamedPolicy> known_policies() {
  std::vector<NamedPolicy> names;
  for (const PolicyEntry& each : entries()) names.push_back(each.name);
  return names;
}

std::string policy_list(std::span<const NamedPolicy> policies) {
  std::string list;
  for (const NamedPolicy& each : policies) {
    const bool is_last = each.name == policies.back().name;
    list += (list.empty() ? "" : is_last ? " or " : ", ") + std::string(each.name);
  }
  return list;
}

std::string policy_list() { return policy_list(known_policies()); }

std::string policy_label(std::string_view policy) {
  const PolicySpec spec(policy);
  return std::string(entry_of(spec).name.label) + spec.note();
}

Pruner make_pruner(std::string_view policy, const PolicyOptions& options,
                   const ModelConfig& model) {
  PolicySpec spec(policy, options.policy_option);
  const auto maker = maker_of(spec, options);
  try {
    Pruner pruner = maker({options, model, spec});
    spec.check_known();
    pruner.pin(options.pinned);
    return pruner;
  } catch (const std::invalid_argument& error) {
    refuse(spec, options, error.what());
  }
}

}  // namespace decoder
