/// The eviction policies a sequence can be decoded under.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "future_mass.hpp"
#include "model_config.hpp"
#include "sequence_pruner.hpp"

namespace decoder {

/// What a user chooses of a policy; the rest are the library's defaults.
struct PolicyOptions {
  std::size_t budget = 1024;  ///< most tokens a layer ever holds: an eighth of an 8k context
  std::size_t pinned = 0;     ///< first tokens of the text that are never evicted
  std::uint64_t seed = 1;     ///< of the random policy
  /// Angle per position of each pair of channels, for policies that undo the keys' rotation.
  std::span<const float> rope_frequencies{};
  /// The model's file, for policies that read its weights.
  const gguf::File* file = nullptr;
  /// What queries times keys are multiplied by; 0: 1 / sqrt(head_dim), as the decoder does.
  float scale = 0;
  /// What will be looked at; the policy "oracle" is told it.
  const FutureLooks* future_looks = nullptr;
  /// What the command line calls the policy and the budget, for errors.
  std::string_view policy_option = "--policy";
  std::string_view budget_option = "--budget";
};

/// A policy's name on the command line, and in tables and pictures.
struct NamedPolicy {
  std::string_view name;
  std::string_view label;
};

/// Returns all policies that a user may choose, "none" first.
[[nodiscard]] std::vector<NamedPolicy> known_policies();

/// Returns the names of policies as a sentence lists them.
[[nodiscard]] std::string policy_list(std::span<const NamedPolicy> policies);
/// Returns those of all that a user may choose.
[[nodiscard]] std::string policy_list();

/// Returns "Whole cache", "Lethe", "H2O (recent_ratio=0.3)", ...
/// @param policy a name, and after it settings: "h2o:recent_ratio=0.3"
/// @throws Error for an unknown policy, listing the known ones
std::string policy_label(std::string_view policy);

/// Makes a policy for one sequence; also "oracle", when it is told what comes.
/// @param policy as policy_label's
/// @throws Error for an unknown name or setting, listing the known ones, and for a budget that
///         cannot hold the protected tokens
[[nodiscard]] Pruner make_pruner(std::string_view policy, const PolicyOptions& options,
                                 const ModelConfig& model);

}  // namespace decoder
