/// Another scorer's scores, each times what the token's value adds to the layer's output.
/// CriticalKV.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/cache_view.hpp"
#include "lethe/head_rows.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// The matrices that turn a layer's heads into its output.
struct OutputProjection {
  /// Query heads of a layer, a multiple of the KV heads.
  std::size_t query_heads = 0;
  /// Channels of a layer's output: the rows of a matrix.
  std::size_t width = 0;
  /// One a layer, width x query_heads x channels of a value, rows together: o_proj.weight, or
  /// attn_output.weight, as it is stored. They are not copied: they must outlive what reads them.
  std::vector<std::span<const float>> layers{};

  /// Whether both are of the same matrices, at the same place. O(layers).
  bool operator==(const OutputProjection& other) const {
    const auto same = [](std::span<const float> a, std::span<const float> b) {
      return a.data() == b.data() && a.size() == b.size();
    };
    return query_heads == other.query_heads && width == other.width &&
           std::equal(layers.begin(), layers.end(), other.layers.begin(), other.layers.end(), same);
  }
};

/// Settings of Projected.
template <class Scorer>
struct ProjectedConfig {
  typename Scorer::Config score{};
  /// Must be given.
  OutputProjection output{};
  /// How the cache's rows lie; must be given.
  HeadShape heads{};
  /// Added to every score; the published 1e-4 is of one head's attention to one query. Scores that
  /// sum over queries and heads want it times as many.
  float epsilon = 1e-4f;

  bool operator==(const ProjectedConfig&) const = default;
};

/// (s + epsilon) |W_o v|_1 (CriticalKV, arXiv 2502.03805): s another scorer's score, the norm that
/// of a token's value through the output projection, the mean over the query heads that share the
/// value. With one group both factors are sums over all KV heads before they are multiplied; choose
/// a group for each to have the product of each. A norm is found when its token is first seen, and
/// kept: 4 bytes a slot and group beside the inner scorer's. A value that is not finite makes the
/// token's score NaN.
template <TokenScorer Scorer>
class Projected : public RowAdaptor<Scorer> {
 public:
  using Config = ProjectedConfig<Scorer>;
  static constexpr bool reads_cache = true;
  static constexpr std::string_view name = "projected";

  /// Throws std::invalid_argument when heads or output are not given or do not fit each other or
  /// the shape, groups is neither 1 nor heads.kv_heads, or epsilon is negative or not finite.
  Projected(const Config& config, const ScoreShape& shape)
      : RowAdaptor<Scorer>(config.score, shape),
        output_(checked(config, shape).output),
        heads_(config.heads),
        epsilon_(config.epsilon),
        values_(shape.slots * heads_.value_channels(), 0.0f),
        sums_(shape.slots, 0.0) {}

  /// Finds the norms of the tokens that are new since the last call, and shows the cache to the
  /// inner scorer. O(new tokens x query heads x channels x width).
  template <ValueReadableCache Cache>
  requires detail::SuitsScorer<Cache, Scorer>
  void read(const Cache& cache, std::size_t layer, std::size_t group,
            std::span<const Position> positions) {
    detail::show_cache(this->scorer_, cache, layer, group, positions);
    const std::span<float> norms = this->row_of(layer, group).first(positions.size());
    std::size_t end = 0;
    for (std::size_t begin = 0; begin < norms.size(); begin = end) {
      end = begin + 1;
      if (is_known(norms[begin])) continue;
      while (end < norms.size() && !is_known(norms[end])) ++end;
      measure(cache, layer, group, begin, norms.subspan(begin, end - begin));
    }
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<const float> scores = this->scorer_.score(layer, group, positions, scratch);
    const std::span<const float> norms = this->row_of(layer, group);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      scratch[i] = (scores[i] + epsilon_) * norms[i];
    }
    return scratch.first(positions.size());
  }

 private:
  [[nodiscard]] static const Config& checked(const Config& config, const ScoreShape& shape) {
    const HeadShape& heads = config.heads;
    const OutputProjection& output = config.output;
    detail::require(heads.kv_heads >= 1, "heads.kv_heads", heads.kv_heads,
                    "give the KV heads of the cache");
    detail::require(heads.value_channels() >= 1, "heads.value_dimension", heads.value_channels(),
                    "give the channels of a value");
    detail::require(shape.groups == 1 || shape.groups == heads.kv_heads, "groups", shape.groups,
                    "choose 1 or heads.kv_heads");
    detail::require(output.query_heads >= 1 && output.query_heads % heads.kv_heads == 0,
                    "output.query_heads", output.query_heads, "give a multiple of heads.kv_heads");
    detail::require(output.width >= 1, "output.width", output.width,
                    "give the channels of a layer's output");
    detail::require(is_finite(config.epsilon) && config.epsilon >= 0.0f, "epsilon", config.epsilon,
                    "choose 0 or above");
    check_layers(config, shape);
    return config;
  }

  static void check_layers(const Config& config, const ScoreShape& shape) {
    const OutputProjection& output = config.output;
    detail::require(output.layers.size() == shape.layers, "output.layers", output.layers.size(),
                    "give one matrix for each layer of the cache");
    const std::size_t most = std::size_t{1} << 24;
    detail::require(
        output.width <= most && output.query_heads <= most / config.heads.value_channels(),
        "output.width", output.width, "no model is so wide");
    for (const std::span<const float> matrix : output.layers) {
      detail::require(
          matrix.size() == output.width * output.query_heads * config.heads.value_channels(),
          "output.layers: floats of a matrix", matrix.size(),
          "give width x query_heads x channels of a value");
    }
  }

  /// keep and forget leave zeros, which no norm but that of a value of zeros is.
  [[nodiscard]] static bool is_known(float norm) {
    return (std::bit_cast<std::uint32_t>(norm) & 0x7FFFFFFFu) != 0;
  }

  /// The norms of consecutive slots: sums over the KV heads of the group.
  template <class Cache>
  LETHE_EXACT void measure(const Cache& cache, std::size_t layer, std::size_t group,
                           std::size_t first_slot, std::span<float> norms) {
    LETHE_EXACT_BODY
    const std::size_t each = heads_.kv_heads / this->shape_.groups;
    const std::size_t channels = heads_.value_channels();
    const TokenRows values{.data = std::span(values_).first(norms.size() * channels),
                           .channels = channels};
    std::fill_n(sums_.begin(), norms.size(), 0.0);
    for (std::size_t head = group * each; head < (group + 1) * each; ++head) {
      cache.read_values(layer, head, first_slot, std::span(values_).first(values.data.size()));
      for (std::size_t row = 0; row < output_.width; ++row) project(layer, head, row, values);
      detail::spoil(values, norms);
    }
    const double share = 1.0 / static_cast<double>(output_.query_heads / heads_.kv_heads);
    for (std::size_t i = 0; i < norms.size(); ++i) {
      if (is_finite(norms[i])) norms[i] = static_cast<float>(sums_[i] * share);
    }
  }

  /// One channel of the output, for each token and each query head that shares the values.
  LETHE_EXACT void project(std::size_t layer, std::size_t head, std::size_t row,
                           const TokenRows& values) {
    LETHE_EXACT_BODY
    const std::size_t shared = output_.query_heads / heads_.kv_heads;
    const std::span<const float> weights = output_.layers[layer].subspan(
        (row * output_.query_heads + head * shared) * values.channels, shared * values.channels);
    for (std::size_t query_head = 0; query_head < shared; ++query_head) {
      const auto own = weights.subspan(query_head * values.channels, values.channels);
      for (std::size_t i = 0; i * values.channels < values.data.size(); ++i) {
        sums_[i] = sums_[i] + std::fabs(detail::dot(own, values[i]));
      }
    }
  }

  OutputProjection output_;
  HeadShape heads_;
  float epsilon_;
  std::vector<float> values_;
  std::vector<double> sums_;
};
static_assert(TokenScorer<Projected<NoScore>>);

}  // namespace lethe
