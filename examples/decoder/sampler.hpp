#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace decoder {

/// Draws the next token from logits; the same settings and logits give the same tokens on every
/// machine.
class Sampler {
 public:
  struct Config {
    /// Divides the logits; 0, the default, always takes the most likely token, so runs can be
    /// compared.
    float temperature = 0.0f;
    /// Draws among the fewest tokens that together have this probability; 0.95 drops the unlikely
    /// tail.
    float top_p = 0.95f;
    /// Any number; runs with the same seed draw the same tokens.
    std::uint64_t seed = 1;
  };

  /// Throws Error for a temperature that is negative or not finite, or top_p outside (0, 1].
  explicit Sampler(Config config);

  /// The next token given its logits, one per vocabulary entry.
  ///
  /// Equal logits resolve to the lower id. -infinity means never. Throws Error when there are no
  /// logits, one is NaN or +infinity, or none is finite. O(n) greedy, else O(n + drawn-from log n);
  /// allocates in the first call only.
  std::int32_t operator()(std::span<const float> logits);

 private:
  struct Candidate {
    std::uint64_t weight;
    std::int32_t id;
  };

  std::uint64_t weigh(std::span<const float> logits, std::int32_t best);
  std::uint64_t select_top(std::uint64_t total);
  std::uint64_t next_random() noexcept;
  std::uint64_t next_below(std::uint64_t bound) noexcept;

  Config config_;
  std::array<std::uint64_t, 4> state_{};
  std::vector<Candidate> candidates_;
};

}  // namespace decoder
