/// How long outputs will be: a bucketed prediction, learnt from the requests that finished.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::layerkv {

/// The end of the last bucket, which has none.
inline constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

/// Settings of OutputLengths.
struct OutputLengthsConfig {
  /// Where buckets begin, ascending; one from 0 to the first is added. Empty: powers of two from 8
  /// to 65,536, so that the lower edge is never less than half of a length.
  std::vector<std::size_t> edges{};
  /// The predicted bucket is the first that holds this share of the lengths still possible; 0.5:
  /// the one of the median. Smaller is more cautious.
  double quantile = 0.5;
  /// Finished requests that are remembered: at so many all counts are halved, so that the
  /// prediction follows the traffic. 4,096 bound the error of a quantile's share to about 1%.
  std::size_t memory = 4096;

  bool operator==(const OutputLengthsConfig&) const = default;
};

/// Where an output's whole length is expected, in tokens: at_least <= length < below.
struct PredictedLength {
  std::size_t at_least = 0;
  std::size_t below = unbounded;

  bool operator==(const PredictedLength&) const = default;
};

/// Lengths of finished outputs, counted by bucket. A prediction is conditional: an output that has
/// passed an edge cannot end in a bucket before it. at_least is the cautious number where more
/// tokens to come mean more slack (admission), below where a request's end frees blocks (forecast).
/// Short outputs finish first, so the first predictions err towards short ones.
class OutputLengths {
 public:
  /// Throws std::invalid_argument for edges that do not ascend from 1 on, a quantile that is not in
  /// (0, 1], and a memory of fewer than 2 requests a bucket.
  explicit OutputLengths(const OutputLengthsConfig& config = {})
      : edges_(config.edges), quantile_(config.quantile), memory_(config.memory) {
    if (edges_.empty()) {
      for (std::size_t edge = 8; edge <= 65536; edge *= 2) edges_.push_back(edge);
    }
    check();
    from_.assign(edges_.size() + 2, 0);
  }

  /// A request finished with so many generated tokens. O(buckets).
  void observe(std::size_t length) {
    if (from_[0] >= memory_) halve();
    const std::size_t bucket = bucket_of(length);
    for (std::size_t i = 0; i <= bucket; ++i) ++from_[i];
  }

  /// The bucket in which an output that has `generated` tokens is expected to end; at_least is
  /// never below `generated`. When nothing so long was seen: at_least = generated, and no end.
  /// O(log buckets).
  [[nodiscard]] PredictedLength predict(std::size_t generated) const {
    const std::size_t first = bucket_of(generated);
    const std::uint64_t possible = from_[first];
    if (possible == 0) return {.at_least = generated};
    // The first bucket after which so few remain: counts fall from bucket to bucket.
    const double rest = (1 - quantile_) * static_cast<double>(possible);
    const auto after = std::partition_point(
        from_.begin() + static_cast<std::ptrdiff_t>(first) + 1, from_.end() - 1,
        [rest](std::uint64_t count) { return static_cast<double>(count) > rest; });
    const auto bucket = static_cast<std::size_t>(after - from_.begin()) - 1;
    return {.at_least = std::max(generated, bucket == 0 ? 0 : edges_[bucket - 1]),
            .below = bucket == edges_.size() ? unbounded : edges_[bucket]};
  }

  /// Outputs that are remembered.
  [[nodiscard]] std::size_t remembered() const { return static_cast<std::size_t>(from_[0]); }

 private:
  void check() const {
    using lethe::detail::require;
    std::size_t last = 0;
    for (const std::size_t edge : edges_) {
      require(edge > last, "edges", edge, "let edges ascend, from 1 on");
      last = edge;
    }
    require(quantile_ > 0 && quantile_ <= 1, "quantile", quantile_, "choose above 0 to 1");
    require(memory_ >= 2 * edges_.size() + 2, "memory", memory_,
            "remember at least 2 requests a bucket, or halving may forget all");
  }

  [[nodiscard]] std::size_t bucket_of(std::size_t length) const {
    return static_cast<std::size_t>(std::upper_bound(edges_.begin(), edges_.end(), length) -
                                    edges_.begin());
  }

  /// Halves each bucket's count (rounded down) and sums them anew.
  void halve() {
    std::uint64_t sum = 0;
    std::uint64_t next = 0;
    for (std::size_t i = from_.size() - 1; i-- != 0;) {
      const std::uint64_t count = from_[i] - next;
      next = from_[i];
      sum += count / 2;
      from_[i] = sum;
    }
  }

  std::vector<std::size_t> edges_;
  double quantile_;
  std::size_t memory_;
  /// Outputs seen in bucket i or a later one; the last entry is 0.
  std::vector<std::uint64_t> from_;
};

}  // namespace lethe::layerkv
