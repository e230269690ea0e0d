/// What an engine can tell of a step's attention, and how it becomes mass: attention received by
/// each token, one row for each score group. Stateless.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "lethe/numeric.hpp"

namespace lethe {

/// Base of the logarithm in a log-sum-exp (FlashInfer's is 2).
enum class LogBase : std::uint8_t { e, two };

/// Attention probabilities: data[head x head_stride + query x query_stride + column x
/// column_stride]. Strides count elements; a zero head_stride or query_stride means densely packed.
template <class Element = float>
struct Probabilities {
  const Element* data = nullptr;
  /// Query heads given.
  std::size_t heads = 1;
  /// Queries given, in the order of their tokens.
  std::size_t queries = 1;
  /// Tokens of the layer that a row covers: all of them, the step's own included. More are allowed
  /// (a padded buffer), and set the packed stride.
  std::size_t columns = 0;
  std::size_t head_stride = 0;
  std::size_t query_stride = 0;
  std::size_t column_stride = 1;
  /// Index within the step of the first query given.
  std::size_t first_query = 0;
  /// Score groups these heads make up: group_count groups from first_group on; 0: all the groups.
  std::size_t first_group = 0;
  std::size_t group_count = 0;
};

/// Attention logits; a probability is exp(softcap(logit x scale) - lse).
template <class Element = float>
struct Logits {
  /// As in Probabilities.
  const Element* data = nullptr;
  /// Log-sum-exp of each row at lse[head x lse_head_stride + query x lse_query_stride]; null:
  /// recomputed from the row.
  const float* lse = nullptr;
  std::size_t heads = 1;
  std::size_t queries = 1;
  std::size_t columns = 0;
  std::size_t head_stride = 0;
  std::size_t query_stride = 0;
  std::size_t column_stride = 1;
  std::size_t first_query = 0;
  std::size_t first_group = 0;
  std::size_t group_count = 0;
  /// 0: queries. FlashInfer's [query][head]: head stride 1, query stride heads.
  std::size_t lse_head_stride = 0;
  std::size_t lse_query_stride = 1;
  float scale = 1.0f;
  /// softcap(x) = softcap x tanh(x / softcap); 0: none.
  float softcap = 0.0f;
  LogBase base = LogBase::e;
};

/// Ready mass: data[group x group_stride + query x query_stride + column], one row a score group.
template <class Element = float>
struct Mass {
  const Element* data = nullptr;
  std::size_t groups = 1;
  std::size_t queries = 1;
  std::size_t columns = 0;
  std::size_t group_stride = 0;
  std::size_t query_stride = 0;
  std::size_t first_query = 0;
};

/// Queries as they enter attention (rotated), with the log-sum-exp of each: scored later, in one
/// pass over the keys, or read by a scorer that learns from queries. data[head x head_stride +
/// query x query_stride + channel].
template <class Element = float>
struct Queries {
  const Element* data = nullptr;
  /// lse[head x lse_head_stride + query x lse_query_stride], over all that the query attended to;
  /// only deferred scoring reads it.
  const float* lse = nullptr;
  std::size_t heads = 1;
  std::size_t queries = 1;
  std::size_t head_dimension = 0;
  std::size_t head_stride = 0;
  std::size_t query_stride = 0;
  std::size_t lse_head_stride = 0;
  std::size_t lse_query_stride = 1;
  std::size_t first_query = 0;
  /// Of a logit, not in the queries yet; 0: 1 / sqrt(head_dimension).
  float scale = 0.0f;
  float softcap = 0.0f;
  LogBase base = LogBase::e;
};

namespace detail {

inline constexpr std::size_t mass_tile = 1024;
using MassTile = std::array<float, mass_tile>;

/// Columns of a turn of sum_rows: a cache line of floats, whose sums stay in registers.
inline constexpr std::size_t column_block = 16;

/// out[i] = row 0 + row 1 + ..., after `out` itself when `adds`: one read and one write of `out`
/// serve all rows, and no line of a row is asked for twice.
template <std::size_t Rows, class Element>
LETHE_EXACT inline void sum_rows(float* LETHE_RESTRICT out, const Element* LETHE_RESTRICT row,
                                 std::size_t head_stride, std::size_t count, bool adds) {
  LETHE_EXACT_BODY
  std::size_t i = 0;
  LETHE_LOOP_AS_WRITTEN
  for (; i + column_block <= count; i += column_block) {
    std::array<float, column_block> sums{};
    if (adds) {
      for (std::size_t j = 0; j < column_block; ++j) sums[j] = out[i + j];
    }
    for (std::size_t h = 0; h < Rows; ++h) {
      const Element* values = row + h * head_stride + i;
      for (std::size_t j = 0; j < column_block; ++j) sums[j] = sums[j] + to_float(values[j]);
    }
    for (std::size_t j = 0; j < column_block; ++j) out[i + j] = sums[j];
  }
  for (; i < count; ++i) {
    float sum = adds ? out[i] : 0.0f;
    for (std::size_t h = 0; h < Rows; ++h) sum = sum + to_float(row[h * head_stride + i]);
    out[i] = sum;
  }
}

template <class Element>
LETHE_EXACT inline void add_strided_row(float* LETHE_RESTRICT out,
                                        const Element* LETHE_RESTRICT row, std::size_t stride,
                                        std::size_t count) {
  LETHE_EXACT_BODY
  for (std::size_t i = 0; i < count; ++i) out[i] = out[i] + to_float(row[i * stride]);
}

/// Sums `heads` rows that start at `data` into out, in the order of heads.
template <class Element>
void sum_heads(float* out, const Element* data, std::size_t heads, std::size_t head_stride,
               std::size_t column_stride, std::size_t count) {
  std::size_t head = 0;
  const auto row = [&] { return data + head * head_stride; };
  if (column_stride == 1) {
    for (; head + 8 <= heads; head += 8) sum_rows<8>(out, row(), head_stride, count, head != 0);
    for (; head + 2 <= heads; head += 2) sum_rows<2>(out, row(), head_stride, count, head != 0);
  }
  if (head == 0) std::fill_n(out, count, 0.0f);
  for (; head < heads; ++head) add_strided_row(out, row(), column_stride, count);
}

/// A row's logits, scaled and soft-capped.
template <class Element>
LETHE_EXACT inline void scaled_logits(float* LETHE_RESTRICT out, const Element* LETHE_RESTRICT row,
                                      std::size_t stride, std::size_t count, float scale,
                                      float softcap) {
  LETHE_EXACT_BODY
  for (std::size_t i = 0; i < count; ++i) out[i] = to_float(row[i * stride]) * scale;
  if (softcap == 0.0f) return;
  // One reciprocal, taken here: -ffast-math would take one, or not, as it pleases.
  const float inverse = 1.0f / softcap;
  for (std::size_t i = 0; i < count; ++i) out[i] = softcap * std::tanh(out[i] * inverse);
}

/// out[i] = exp(logit[i] - lse), or added to out when `adds`.
LETHE_EXACT inline void put_exponentials(float* LETHE_RESTRICT out,
                                         const float* LETHE_RESTRICT logit, std::size_t count,
                                         float lse, bool adds) {
  LETHE_EXACT_BODY
  if (adds) {
    for (std::size_t i = 0; i < count; ++i) out[i] = out[i] + exact_exp(logit[i] - lse);
  } else {
    for (std::size_t i = 0; i < count; ++i) out[i] = exact_exp(logit[i] - lse);
  }
}

inline constexpr float natural_log_of_two = 0.693147180559945f;

[[nodiscard]] inline float natural(float lse, LogBase base) {
  return base == LogBase::two ? lse * natural_log_of_two : lse;
}

/// Log-sum-exp of one row, by a running maximum over tiles. Infinite, so that all shares are 0,
/// for a row masked throughout.
template <class Element>
[[nodiscard]] LETHE_EXACT inline float row_log_sum_exp(const Logits<Element>& logits,
                                                       const Element* row, std::size_t count) {
  LETHE_EXACT_BODY
  MassTile tile;
  float maximum = -3.0e38f;
  double sum = 0;
  for (std::size_t begin = 0; begin < count; begin += mass_tile) {
    const std::size_t length = std::min(mass_tile, count - begin);
    scaled_logits(tile.data(), row + begin * logits.column_stride, logits.column_stride, length,
                  logits.scale, logits.softcap);
    const float peak = std::max(
        maximum,
        *std::max_element(tile.begin(), tile.begin() + static_cast<std::ptrdiff_t>(length)));
    sum *= std::exp(static_cast<double>(maximum) - static_cast<double>(peak));
    for (std::size_t i = 0; i < length; ++i) {
      sum = sum + static_cast<double>(exact_exp(tile[i] - peak));
    }
    maximum = peak;
  }
  if (sum == 0) return std::numeric_limits<float>::infinity();
  return maximum + static_cast<float>(std::log(sum));
}

/// How an observation's heads fall into score groups, and where its rows start.
struct HeadGroups {
  std::size_t first = 0;
  std::size_t count = 1;
  std::size_t heads_each = 1;
};

template <class Observation>
[[nodiscard]] HeadGroups head_groups(const Observation& seen, std::size_t groups) {
  require(seen.first_group < groups, "observe first_group", seen.first_group,
          "choose one of the pruner's groups");
  const std::size_t left = groups - seen.first_group;
  const std::size_t count = seen.group_count != 0 ? seen.group_count : left;
  require(count <= left, "observe group_count", count, "the pruner has fewer groups from there on");
  require(seen.heads >= 1 && seen.heads % count == 0, "observe heads", seen.heads,
          "give a multiple of the groups they make up");
  return {seen.first_group, count, seen.heads / count};
}

/// An observation with its zero strides filled in.
template <class Observation>
[[nodiscard]] Observation packed(Observation seen) {
  if (seen.query_stride == 0) seen.query_stride = seen.columns * seen.column_stride;
  if (seen.head_stride == 0) seen.head_stride = seen.queries * seen.query_stride;
  return seen;
}

/// The same for queries.
template <class Element>
[[nodiscard]] Queries<Element> packed(Queries<Element> seen) {
  if (seen.query_stride == 0) seen.query_stride = seen.head_dimension;
  if (seen.head_stride == 0) seen.head_stride = seen.queries * seen.query_stride;
  return seen;
}

template <class Element>
void tile_mass(const Probabilities<Element>& seen, std::size_t head, std::size_t heads,
               std::size_t query, std::size_t begin, std::size_t length, const float*, float* out) {
  const Element* row =
      seen.data + head * seen.head_stride + query * seen.query_stride + begin * seen.column_stride;
  sum_heads(out, row, heads, seen.head_stride, seen.column_stride, length);
}

template <class Element>
void tile_mass(const Logits<Element>& seen, std::size_t head, std::size_t heads, std::size_t query,
               std::size_t begin, std::size_t length, const float* lse, float* out) {
  MassTile logit;
  for (std::size_t h = 0; h < heads; ++h) {
    const Element* row = seen.data + (head + h) * seen.head_stride + query * seen.query_stride +
                         begin * seen.column_stride;
    scaled_logits(logit.data(), row, seen.column_stride, length, seen.scale, seen.softcap);
    put_exponentials(out, logit.data(), length, lse[h], h != 0);
  }
}

inline constexpr std::size_t most_heads_in_group = 256;
using RowLse = std::array<float, most_heads_in_group>;

template <class Element>
[[nodiscard]] std::array<float, 0> row_lse(const Probabilities<Element>&, std::size_t, std::size_t,
                                           std::size_t, std::size_t) {
  return {};
}

/// The log-sum-exps of one query in a group's heads, base e.
template <class Element>
[[nodiscard]] RowLse row_lse(const Logits<Element>& seen, std::size_t head, std::size_t heads,
                             std::size_t query, std::size_t limit) {
  require(heads <= most_heads_in_group, "heads", heads,
          "give at most 256 heads of a group at once");
  RowLse lse{};
  const std::size_t stride = seen.lse_head_stride != 0 ? seen.lse_head_stride : seen.queries;
  for (std::size_t h = 0; h < heads; ++h) {
    if (seen.lse != nullptr) {
      const std::size_t at = (head + h) * stride + query * seen.lse_query_stride;
      lse[h] = natural(seen.lse[at], seen.base);
    } else {
      const Element* row = seen.data + (head + h) * seen.head_stride + query * seen.query_stride;
      lse[h] = row_log_sum_exp(seen, row, limit);
    }
  }
  return lse;
}

/// One query and one group: its heads' rows, summed tile by tile.
template <class Observation, class Sink>
void visit_row(const Observation& seen, std::size_t head, std::size_t heads, std::size_t query,
               std::size_t limit, Sink&& sink) {
  MassTile tile;
  const auto lse = row_lse(seen, head, heads, query, limit);
  for (std::size_t begin = 0; begin < limit; begin += mass_tile) {
    const std::size_t length = std::min(mass_tile, limit - begin);
    tile_mass(seen, head, heads, query, begin, length, lse.data(), tile.data());
    sink(begin, std::span<const float>(tile).first(length));
  }
}

/// Tokens before the step, of a layer or of one of its groups.
template <class Base>
[[nodiscard]] std::size_t tokens_before(const Base& base, std::size_t group) {
  if constexpr (std::is_invocable_v<const Base&, std::size_t>) {
    return base(group);
  } else {
    return base;
  }
}

}  // namespace detail

/// Turns probabilities or logits into mass: calls sink(query, group, first_column, tile) for tiles
/// of each query's row, query counted within the step. Columns at or beyond a query's causal limit,
/// base + query + 1, are not read. groups: score groups of the layer. base: tokens before the step,
/// or base(group) where heads differ. O(heads x queries x columns).
template <class Observation, class Base, class Sink>
void for_each_mass_tile(const Observation& observation, std::size_t groups, const Base& base,
                        Sink&& sink) {
  const Observation seen = detail::packed(observation);
  const detail::HeadGroups heads = detail::head_groups(seen, groups);
  for (std::size_t q = 0; q < seen.queries; ++q) {
    const std::size_t query = seen.first_query + q;
    for (std::size_t g = 0; g < heads.count; ++g) {
      const std::size_t before = detail::tokens_before(base, heads.first + g);
      const std::size_t limit = std::min(seen.columns, before + query + 1);
      detail::visit_row(seen, g * heads.heads_each, heads.heads_each, q, limit,
                        [&](std::size_t begin, std::span<const float> tile) {
                          sink(query, heads.first + g, begin, tile);
                        });
    }
  }
}

/// The same for ready mass; rows of floats are handed on without a copy.
template <class Element, class Base, class Sink>
void for_each_mass_tile(const Mass<Element>& mass, std::size_t groups, const Base& base,
                        Sink&& sink) {
  detail::require(mass.groups == groups, "observe groups", mass.groups,
                  "give one row for each of the pruner's groups");
  if constexpr (std::is_same_v<Element, float>) {
    const std::size_t query_stride = mass.query_stride != 0 ? mass.query_stride : mass.columns;
    const std::size_t group_stride =
        mass.group_stride != 0 ? mass.group_stride : mass.queries * query_stride;
    for (std::size_t q = 0; q < mass.queries; ++q) {
      for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t before = detail::tokens_before(base, g);
        const std::size_t limit = std::min(mass.columns, before + mass.first_query + q + 1);
        const float* row = mass.data + g * group_stride + q * query_stride;
        sink(mass.first_query + q, g, std::size_t{0}, std::span<const float>(row, limit));
      }
    }
  } else {
    for_each_mass_tile(Probabilities<Element>{.data = mass.data,
                                              .heads = mass.groups,
                                              .queries = mass.queries,
                                              .columns = mass.columns,
                                              .head_stride = mass.group_stride,
                                              .query_stride = mass.query_stride,
                                              .first_query = mass.first_query},
                       groups, base, sink);
  }
}

}  // namespace lethe
