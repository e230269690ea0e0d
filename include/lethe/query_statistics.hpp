/// What the queries so far have in common: their mean, covariance and size, rotation undone.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "lethe/head_rows.hpp"
#include "lethe/numeric.hpp"
#include "lethe/rotation.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// The queries of a model, and how they and its keys turn.
struct QueryHeads {
  /// Query heads; must be given.
  std::size_t heads = 0;
  /// Radians by which one position turns each pair of channels; empty: nothing is rotated.
  std::vector<float> frequencies{};
  RotaryPairs pairs = RotaryPairs::neighbours;
  /// Queries that a token brings to a layer (QueryShape::per_token).
  std::size_t per_token = 1;
  /// What queries times keys are multiplied by in attention; 0: 1 / sqrt(head_dimension).
  float scale = 0.0f;

  bool operator==(const QueryHeads&) const = default;
};

/// Which statistics are kept beside the mean.
struct QueryMoments {
  /// Covariance of the channels: channels^2 / 2 sums a query head.
  bool covariance = false;
  /// Mean length of each rotary pair.
  bool pair_lengths = false;
  /// Queries of earlier positions do not count.
  Position first_position = 0;
  /// What is left of a query's weight after one more; 1: all count alike. From above 0 to 1.
  double decay = 1;

  bool operator==(const QueryMoments&) const = default;
};

/// Weighted sums over the queries of each (layer, query head), rotation undone. In double, in the
/// order in which queries come, so that equal queries give equal bits however they are cut into
/// steps (where a token brings one). A query with a channel that is not finite is left out. Memory:
/// 8 bytes a sum; layers x heads x (channels + channels (channels + 1) / 2 + pairs) of them with
/// every moment. Nothing is allocated after construction.
class QueryStatistics {
 public:
  /// head_dimension: channels of a query and of a key. Throws std::invalid_argument when it or
  /// heads is 0, frequencies turn more channels than there are, or no memory could hold the sums.
  QueryStatistics(const QueryHeads& queries, std::size_t head_dimension, std::size_t layers,
                  const QueryMoments& moments)
      : shape_(checked(queries, head_dimension, layers)),
        moments_(moments),
        settings_(digest_of(queries, moments)),
        rotation_(queries.frequencies, queries.pairs),
        row_(head_dimension, 0.0f),
        counts_(layers, 0),
        weights_(layers, 0.0),
        sums_(layers * shape_.heads * head_dimension, 0.0),
        products_(moments.covariance ? layers * shape_.heads * triangle(head_dimension) : 0, 0.0),
        lengths_(moments.pair_lengths ? layers * shape_.heads * rotation_.pairs() : 0, 0.0) {}

  [[nodiscard]] QueryShape shape() const { return shape_; }
  [[nodiscard]] const Rotation& rotation() const { return rotation_; }
  /// Entries of a lower triangle, the diagonal included.
  [[nodiscard]] static constexpr std::size_t triangle(std::size_t rows) {
    return rows * (rows + 1) / 2;
  }

  /// Counts a query: all its heads side by side, as they enter attention. O(heads x channels), and
  /// O(heads x channels^2) with the covariance.
  void record(std::size_t layer, Position position, std::span<const float> query) {
    if (position < moments_.first_position || !detail::is_finite_row(query)) return;
    ++counts_[layer];
    fade(layer);
    rotation_.set_position(position);
    for (std::size_t head = 0; head < shape_.heads; ++head) {
      std::copy_n(query.data() + head * row_.size(), row_.size(), row_.begin());
      rotation_.turn_back(row_);
      add_row(index_of(layer, head));
    }
  }

  /// Queries that count in a layer.
  [[nodiscard]] std::uint64_t count(std::size_t layer) const { return counts_[layer]; }

  /// The mean query of a head; zeros before the first. O(channels).
  LETHE_EXACT void mean(std::size_t layer, std::size_t head, std::span<float> out) const {
    LETHE_EXACT_BODY
    const double share = share_of(layer);
    const double* sums = sums_.data() + index_of(layer, head) * row_.size();
    for (std::size_t c = 0; c < row_.size(); ++c) out[c] = static_cast<float>(sums[c] * share);
  }

  /// The covariance of a head's channels as its lower triangle, row by row: E qq' - E q E q'. Needs
  /// QueryMoments::covariance. O(channels^2).
  LETHE_EXACT void covariance(std::size_t layer, std::size_t head, std::span<float> out) const {
    LETHE_EXACT_BODY
    const double share = share_of(layer);
    const double* sums = sums_.data() + index_of(layer, head) * row_.size();
    const double* products = products_.data() + index_of(layer, head) * triangle(row_.size());
    float* to = out.data();
    for (std::size_t r = 0; r < row_.size(); ++r) {
      const double mean = sums[r] * share;
      for (std::size_t c = 0; c <= r; ++c) {
        *to++ = static_cast<float>((*products++ - LETHE_PRODUCT(mean, sums[c])) * share);
      }
    }
  }

  /// The mean length of each rotary pair of a head. Needs QueryMoments::pair_lengths. O(pairs).
  LETHE_EXACT void pair_lengths(std::size_t layer, std::size_t head, std::span<float> out) const {
    LETHE_EXACT_BODY
    const double share = share_of(layer);
    const double* lengths = lengths_.data() + index_of(layer, head) * rotation_.pairs();
    for (std::size_t pair = 0; pair < rotation_.pairs(); ++pair) {
      out[pair] = static_cast<float>(lengths[pair] * share);
    }
  }

  void reset() {
    std::fill(counts_.begin(), counts_.end(), std::uint64_t{0});
    for (std::vector<double>* sums : {&weights_, &sums_, &products_, &lengths_}) {
      std::fill(sums->begin(), sums->end(), 0.0);
    }
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    // Sums of queries turned back otherwise, or of others, cannot be gone on with.
    [[maybe_unused]] const bool same = detail::archive_setting(archive, self.settings_);
    if constexpr (!std::is_const_v<Self>) self.same_settings_ = same;
    archive(self.counts_);
    archive(self.weights_);
    archive(self.sums_);
    archive(self.products_);
    archive(self.lengths_);
  }

  /// Whether restored sums can be worked with.
  [[nodiscard]] bool valid() const {
    const auto finite = [](const std::vector<double>& sums) {
      return std::all_of(sums.begin(), sums.end(), [](double sum) {
        constexpr std::uint64_t exponent = 0x7FF0000000000000u;
        return (std::bit_cast<std::uint64_t>(sum) & exponent) != exponent;
      });
    };
    return same_settings_ && finite(weights_) && finite(sums_) && finite(products_) &&
           finite(lengths_);
  }

 private:
  [[nodiscard]] static QueryShape checked(const QueryHeads& queries, std::size_t head_dimension,
                                          std::size_t layers) {
    const std::size_t most = std::size_t{1} << 24;
    detail::require(queries.heads >= 1 && queries.heads <= most, "queries.heads", queries.heads,
                    "give the query heads");
    detail::require(head_dimension >= 1 && head_dimension <= most / 2, "head_dimension",
                    head_dimension, "give the channels of a head");
    detail::require(queries.heads <= (std::size_t{1} << 48) / layers / triangle(head_dimension),
                    "queries.heads", queries.heads,
                    "keep layers x heads x head_dimension^2 within 2^48");
    detail::require(2 * queries.frequencies.size() <= head_dimension, "queries.frequencies",
                    queries.frequencies.size(), "give one for each pair of channels at most");
    detail::require(is_finite(queries.scale) && queries.scale >= 0.0f, "queries.scale",
                    queries.scale, "give a number above 0, or 0 for 1 / sqrt(head_dimension)");
    detail::require(detail::is_finite_row(queries.frequencies), "queries.frequencies",
                    queries.frequencies.size(), "give finite ones");
    return {queries.heads, head_dimension, queries.per_token};
  }

  /// Of what sums depend on.
  [[nodiscard]] static std::uint64_t digest_of(const QueryHeads& queries,
                                               const QueryMoments& moments) {
    const std::array<std::uint64_t, 5> parts{
        detail::checksum(std::as_bytes(std::span(queries.frequencies))),
        static_cast<std::uint64_t>(queries.pairs), queries.per_token, moments.first_position,
        std::bit_cast<std::uint64_t>(moments.decay)};
    return detail::checksum(std::as_bytes(std::span(parts)));
  }

  [[nodiscard]] std::size_t index_of(std::size_t layer, std::size_t head) const {
    return layer * shape_.heads + head;
  }

  /// What a sum is multiplied by for the mean.
  [[nodiscard]] LETHE_EXACT double share_of(std::size_t layer) const {
    LETHE_EXACT_BODY
    return weights_[layer] > 0 ? 1.0 / weights_[layer] : 0.0;
  }

  /// One more query: what those before it weigh.
  LETHE_EXACT void fade(std::size_t layer) {
    LETHE_EXACT_BODY
    weights_[layer] = LETHE_PRODUCT(weights_[layer], moments_.decay) + 1.0;
    if (moments_.decay == 1) return;
    for (std::vector<double>* sums : {&sums_, &products_, &lengths_}) {
      const std::size_t each = sums->size() / weights_.size();
      for (double& sum : std::span(*sums).subspan(layer * each, each)) sum = sum * moments_.decay;
    }
  }

  /// Adds row_. Products of floats are exact in double, so fusing them changes nothing.
  LETHE_EXACT void add_row(std::size_t index) {
    LETHE_EXACT_BODY
    const float* LETHE_RESTRICT row = row_.data();
    double* LETHE_RESTRICT sums = sums_.data() + index * row_.size();
    for (std::size_t c = 0; c < row_.size(); ++c) sums[c] = sums[c] + static_cast<double>(row[c]);
    if (moments_.covariance) add_products(index);
    if (moments_.pair_lengths) add_lengths(index);
  }

  LETHE_EXACT void add_products(std::size_t index) {
    LETHE_EXACT_BODY
    const float* LETHE_RESTRICT row = row_.data();
    double* LETHE_RESTRICT products = products_.data() + index * triangle(row_.size());
    for (std::size_t r = 0; r < row_.size(); ++r, products += r) {
      const double own = static_cast<double>(row[r]);
      for (std::size_t c = 0; c <= r; ++c) {
        products[c] = products[c] + own * static_cast<double>(row[c]);
      }
    }
  }

  LETHE_EXACT void add_lengths(std::size_t index) {
    LETHE_EXACT_BODY
    double* lengths = lengths_.data() + index * rotation_.pairs();
    for (std::size_t pair = 0; pair < rotation_.pairs(); ++pair) {
      const double x = static_cast<double>(row_[rotation_.first_of(pair)]);
      const double y = static_cast<double>(row_[rotation_.second_of(pair)]);
      lengths[pair] = lengths[pair] + std::sqrt(x * x + y * y);
    }
  }

  QueryShape shape_;
  QueryMoments moments_;
  std::uint64_t settings_;
  bool same_settings_ = true;
  Rotation rotation_;
  std::vector<float> row_;
  /// Of each layer: its queries, and their weights' sum.
  std::vector<std::uint64_t> counts_;
  std::vector<double> weights_;
  /// Of each (layer, head): its channels, the lower triangle of their products, its pairs' lengths.
  std::vector<double> sums_;
  std::vector<double> products_;
  std::vector<double> lengths_;
};

/// What rules share that learn from queries (QueryRowRule): their statistics, and which query heads
/// belong to a KV head.
class QueryRule {
 public:
  static constexpr bool reads_queries = true;

  void record_query(std::size_t layer, Position position, std::span<const float> query) {
    statistics_.record(layer, position, query);
  }
  [[nodiscard]] QueryShape query_shape() const { return statistics_.shape(); }
  void reset() { statistics_.reset(); }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    QueryStatistics::archive(archive, self.statistics_);
  }

  [[nodiscard]] bool valid() const { return statistics_.valid(); }

 protected:
  /// Throws std::invalid_argument as QueryStatistics does, and unless heads.kv_heads divides the
  /// query heads.
  QueryRule(const QueryHeads& queries, const HeadShape& heads, std::size_t layers,
            const QueryMoments& moments)
      : statistics_(queries, heads.key_dimension, layers, moments),
        heads_each_(checked(queries, heads) / heads.kv_heads) {}

  /// Query heads of each KV head.
  [[nodiscard]] std::size_t heads_each() const { return heads_each_; }

  QueryStatistics statistics_;

 private:
  [[nodiscard]] static std::size_t checked(const QueryHeads& queries, const HeadShape& heads) {
    detail::require(heads.kv_heads >= 1 && queries.heads % heads.kv_heads == 0, "queries.heads",
                    queries.heads, "give a multiple of heads.kv_heads");
    return queries.heads;
  }

  std::size_t heads_each_;
};

namespace detail {

/// What logits are multiplied by.
[[nodiscard]] inline double logit_scale(const QueryHeads& queries, const HeadShape& heads) {
  if (queries.scale > 0.0f) return static_cast<double>(queries.scale);
  return 1.0 / std::sqrt(static_cast<double>(heads.key_dimension));
}

/// Adds the softmax of logits over a number of heads to out, as many. weights: work space of as
/// many.
LETHE_EXACT inline void add_softmax(std::span<const double> logits, std::span<float> weights,
                                    std::size_t heads, std::span<float> out) {
  LETHE_EXACT_BODY
  if (out.empty()) return;
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    // Below -100 the exponential is 0.
    weights[i] = exact_exp(static_cast<float>(std::max(logits[i] - largest, -100.0)));
    total = total + static_cast<double>(weights[i]);
  }
  add_scaled(out.data(), weights.data(), out.size(),
             static_cast<float>(1.0 / (total * static_cast<double>(heads))));
}

/// 1, 2, 3, ... count.
[[nodiscard]] inline std::vector<Position> next_offsets(std::size_t count) {
  require(count >= 1 && count <= (std::size_t{1} << 20), "horizon", count,
          "choose from 1 to 2^20 positions");
  std::vector<Position> offsets(count);
  std::iota(offsets.begin(), offsets.end(), Position{1});
  return offsets;
}

/// 1, 2, 4, ... so many of them.
[[nodiscard]] inline std::vector<Position> doubling_offsets(std::size_t count) {
  require(count >= 1 && count <= 31, "offsets", count, "choose from 1 to 31 powers of two");
  std::vector<Position> offsets(count);
  for (std::size_t i = 0; i < count; ++i) offsets[i] = Position{1} << i;
  return offsets;
}

}  // namespace detail
}  // namespace lethe
