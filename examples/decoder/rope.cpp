#include "rope.hpp"

#include <cmath>

namespace decoder {

void Rope::set_positions(std::span<const float> frequencies,
                         std::span<const std::size_t> positions) {
  pairs_ = frequencies.size();
  cosines_.resize(positions.size() * pairs_);
  sines_.resize(positions.size() * pairs_);
  for (std::size_t row = 0; row < positions.size(); ++row) {
    for (std::size_t i = 0; i < pairs_; ++i) {
      const float angle = static_cast<float>(positions[row]) * frequencies[i];
      cosines_[row * pairs_ + i] = std::cos(angle);
      sines_[row * pairs_ + i] = std::sin(angle);
    }
  }
}

void Rope::rotate(std::size_t row, RopePairs pairs, float* head) const noexcept {
  const float* cosine = cosines_.data() + row * pairs_;
  const float* sine = sines_.data() + row * pairs_;
  const bool halves = pairs == RopePairs::halves;
  for (std::size_t i = 0; i < pairs_; ++i) {
    float& x = head[halves ? i : 2 * i];
    float& y = head[halves ? i + pairs_ : 2 * i + 1];
    const float rotated = x * cosine[i] - y * sine[i];
    y = x * sine[i] + y * cosine[i];
    x = rotated;
  }
}

}  // namespace decoder
