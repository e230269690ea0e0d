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
                             value_policies(), query_policies()}) {
      list.insert(list.end(), part.begin(), part.end());
    }
    return list;
  }();
  return all;
}

/// Throws Error for an unknown policy.
const PolicyEntry& entry_of(std::string_view policy) {
  for (const PolicyEntry& each : entries()) {
    if (each.name.name == policy) return each;
  }
  throw Error("--policy " + one_line(policy) + ": unknown; choose " + policy_list());
}

/// The oracle where it is told what comes, which no command line does.
auto maker_of(std::string_view name, const PolicyOptions& options) {
  const bool is_oracle = name == "oracle" && options.future_looks != nullptr;
  return is_oracle ? make_oracle : entry_of(name).make;
}

}  // namespace

std::vector<NamedPolicy> known_policies() {
  std::vector<NamedPolicy> names;
  for (const PolicyEntry& each : entries()) names.push_back(each.name);
  return names;
}

std::string policy_list() {
  std::string list;
  const std::vector<NamedPolicy> known = known_policies();
  for (const NamedPolicy& each : known) {
    const bool is_last = each.name == known.back().name;
    list += (list.empty() ? "" : is_last ? " or " : ", ") + std::string(each.name);
  }
  return list;
}

std::string policy_label(std::string_view policy) {
  return std::string(entry_of(policy).name.label);
}

Pruner make_pruner(std::string_view name, const PolicyOptions& options, const ModelConfig& model) {
  const auto maker = maker_of(name, options);
  try {
    Pruner pruner = maker({options, model});
    pruner.pin(options.pinned);
    return pruner;
  } catch (const std::invalid_argument& error) {
    throw Error("policy " + std::string(name) + " cannot work with a budget of " +
                std::to_string(options.budget) + " tokens, " + std::to_string(options.pinned) +
                " of them pinned: give a larger budget (" + error.what() + ")");
  }
}

}  // namespace decoder
