/// Scores shared among neighbours in position, as SnapKV's are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/position_order.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// How neighbouring tokens share a score.
enum class Pooling : std::uint8_t { maximum, mean };

namespace detail {

/// NaN where either is.
[[nodiscard]] LETHE_HOST_DEVICE constexpr float larger_score(float a, float b) {
  if (!is_finite(a)) return a;
  return !is_finite(b) || a < b ? b : a;
}

/// What the token at `centre` of `count` shares with its neighbours; ranked[i]: the score of the
/// i-th oldest. share: 1 / pool, since a division in a loop would round as -ffast-math pleases.
template <class Ranked>
[[nodiscard]] LETHE_HOST_DEVICE LETHE_EXACT float pooled_score(const Ranked& ranked,
                                                               std::size_t centre,
                                                               std::size_t count, std::size_t pool,
                                                               Pooling pooling, float share) {
  LETHE_EXACT_BODY
  const std::size_t reach = pool / 2;
  const std::size_t begin = centre < reach ? 0 : centre - reach;
  const std::size_t end = count - centre <= reach ? count : centre + reach + 1;
  float result = ranked[begin];
  for (std::size_t i = begin + 1; i < end; ++i) {
    const float score = ranked[i];
    result = pooling == Pooling::maximum ? larger_score(result, score) : result + score;
  }
  return pooling == Pooling::maximum ? result : result * share;
}

}  // namespace detail

/// Pools rows of scores over an odd number of neighbours. Nothing is allocated after construction.
class NeighbourPool {
 public:
  /// pool: tokens pooled; 1: none. Throws std::invalid_argument when it is even.
  NeighbourPool(std::size_t pool, Pooling pooling, std::size_t slots)
      : pool_(checked(pool)),
        pooling_(pooling),
        order_(slots),
        ranked_(slots),
        share_(1.0f / static_cast<float>(pool)) {}

  /// Pools in place among the `count` oldest tokens; the newer ones keep their scores. positions:
  /// one a score. Beyond either end a mean counts zeros. O(n x pool); a sort more where slots were
  /// overwritten.
  void apply(std::span<const Position> positions, std::size_t count, std::span<float> scores) {
    if (pool_ == 1) return;
    const std::span<const Slot> order = order_by_position(positions, order_).first(count);
    for (std::size_t i = 0; i < order.size(); ++i) ranked_[i] = scores[order[i]];
    for (std::size_t i = 0; i < order.size(); ++i) {
      scores[order[i]] =
          detail::pooled_score(ranked_.data(), i, order.size(), pool_, pooling_, share_);
    }
  }

 private:
  [[nodiscard]] static std::size_t checked(std::size_t pool) {
    detail::require(pool % 2 == 1, "pool", pool, "choose an odd number of tokens");
    return pool;
  }

  std::size_t pool_;
  Pooling pooling_;
  std::vector<Slot> order_;
  /// Scores in the order of position.
  std::vector<float> ranked_;
  float share_;
};

}  // namespace lethe
