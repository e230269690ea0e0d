/// The same text on a device and on the CPU decoder, step by step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/policies.hpp>
#include <nlohmann/json.hpp>
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
  double tie = 0.05;  ///< logits that close are a tie: rounding may decide it
};

/// What came of it. The CPU's tokens are what both read.
struct Comparison {
  std::size_t steps = 0;  ///< tokens read, over all sequences
  std::size_t same = 0;   ///< after which both hold the same token for the likeliest
  double difference = 0;  ///< largest of two logits
  double margin = 0;      ///< largest between the two tokens, on the CPU, where they differ
  std::size_t sequences = 0;
  std::size_t layers = 0;  ///< over all sequences
  std::size_t same_length =
      0;  ///< of which at a sequence's end both hold the same number of tokens
  std::size_t fewest_kept = 0;  ///< tokens that a layer held at a sequence's end
  std::size_t most_kept = 0;
  std::size_t read = 0;  ///< most tokens that a sequence read

  /// Whether tokens differ by ties alone.
  [[nodiscard]] bool agrees(double tie) const { return steps != 0 && margin <= tie; }
  [[nodiscard]] nlohmann::json results() const;
};

/// Prompts that a comparison is made on, for the program's own model or another.
[[nodiscard]] std::vector<std::string> comparison_prompts(const decoder::Workbench& bench);

/// Decodes the prompts on both, a batch whose sequences begin and end at different times.
[[nodiscard]] Comparison compare(decoder::Workbench& bench, LoadedModel& model,
                                 const std::vector<std::string>& prompts,
                                 const ComparisonSettings& settings);

}  // namespace cuda_decode
