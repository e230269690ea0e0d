/// Rotary position embedding.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model_config.hpp"

namespace decoder {

/// Cosines and sines of a batch's positions; the same in all layers.
class Rope {
 public:
  /// Computes the angles of new positions. O(positions * pairs).
  /// @param frequencies angle per position, one per pair of channels
  void set_positions(std::span<const float> frequencies, std::span<const std::size_t> positions);

  /// Rotates one head of the token in `row`. O(pairs).
  void rotate(std::size_t row, RopePairs pairs, float* head) const noexcept;

 private:
  std::size_t pairs_ = 0;
  std::vector<float> cosines_;  // [positions][pairs]
  std::vector<float> sines_;
};

}  // namespace decoder
