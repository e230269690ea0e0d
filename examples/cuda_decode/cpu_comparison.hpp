/// The same text on a device and on the CPU decoder, step by step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/policies.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "stepper.hpp"
#include "workbench.hpp"

namespace cuda_decode {

/// The settings of policies::Lethe as lethe::cuda takes them.
/// @param capacity most tokens of a layer
[[nodiscard]] Pruning lethe_pruning(std::size_t capacity, const lethe::LetheConfig& config = {});

/// What is compared.
struct ComparisonSettings {
  std::uint32_t rows = 4;     ///< sequences at a time; others wait until one has ended
  std::size_t tokens = 128;   ///< that each writes behind its prompt, at most
  std::uint32_t stagger = 9;  ///< steps between two that begin
  std::size_t budget = 0;     ///< most tokens of a layer, under Lethe; 0: the whole cache
  lethe::LetheConfig lethe{};
};

/// How near the CPU a device has to come.
struct Tolerance {
  /// Logits that close are a tie: rounding may decide it. As much as two logits were seen to differ
  /// by on the host, 0.045.
  double tie = 0.05;
  /// Most that two logits may differ by, where layers have to hold as many tokens too. Twice what
  /// was seen on the host, 0.045 with SmolLM2 in Q4_1 and 0.004 with the reasoner: a device sums in
  /// yet another order. None: tokens alone count, as befits coarser numbers.
  std::optional<double> difference = 0.1;
};

/// What came of it. The CPU's tokens are what both read.
struct Comparison {
  std::size_t steps = 0;  ///< tokens read, over all sequences
  std::size_t same = 0;   ///< after which both hold the same token for the likeliest
  double difference = 0;  ///< largest of two logits; infinite where one is no number
  double margin = 0;      ///< largest between the two tokens, on the CPU, where they differ
  std::size_t sequences = 0;
  std::size_t layers = 0;  ///< over all sequences
  std::size_t same_length =
      0;  ///< of which at a sequence's end both hold the same number of tokens
  std::size_t fewest_kept = 0;  ///< tokens that a layer held at a sequence's end
  std::size_t most_kept = 0;
  std::size_t read = 0;  ///< most tokens that a sequence read

  /// Whether tokens differ by ties alone, and the rest by no more than is tolerated.
  [[nodiscard]] bool agrees(const Tolerance& tolerance) const {
    if (steps == 0 || !(margin <= tolerance.tie)) return false;
    return !tolerance.difference || (difference <= *tolerance.difference && same_length == layers);
  }
  [[nodiscard]] nlohmann::json results() const;
};

/// Prompts that a comparison is made on, for the program's own model or another.
[[nodiscard]] std::vector<std::string> comparison_prompts(const decoder::Workbench& bench);

/// Decodes the prompts on both, a batch whose sequences begin and end at different times.
[[nodiscard]] Comparison compare(decoder::Workbench& bench, LoadedModel& model,
                                 const std::vector<std::string>& prompts,
                                 const ComparisonSettings& settings);

}  // namespace cuda_decode
