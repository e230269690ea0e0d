/// The keys and values of one KV head as rules see them that score tokens by their rows alone.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lethe/archive.hpp"
#include "lethe/numeric.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// Heads of a cache, and how long their rows are.
struct HeadShape {
  std::size_t kv_heads = 0;
  /// Channels of a key.
  std::size_t key_dimension = 0;
  /// Channels of a value; 0: as many as of a key.
  std::size_t value_dimension = 0;

  [[nodiscard]] std::size_t value_channels() const {
    return value_dimension != 0 ? value_dimension : key_dimension;
  }
  bool operator==(const HeadShape&) const = default;
};

/// Rows of equal length, one a token.
struct TokenRows {
  std::span<const float> data{};
  std::size_t channels = 0;

  [[nodiscard]] std::span<const float> operator[](std::size_t token) const {
    return data.subspan(token * channels, channels);
  }
};

/// One KV head in the order of position, from the oldest token to the newest.
struct HeadRows {
  std::size_t layer = 0;
  std::size_t head = 0;
  /// Ascending, one a token; never empty.
  std::span<const Position> positions{};
  /// As they stand in attention; empty where the rule does not read them.
  TokenRows keys{};
  TokenRows values{};

  [[nodiscard]] std::size_t size() const { return positions.size(); }
};

namespace detail {

/// What every rule does.
template <class Rule>
concept ScoresRows = Copied<Rule> &&
    requires(Rule rule, const HeadRows& rows, std::span<float> out) {
  { Rule::name } -> std::convertible_to<std::string_view>;
  { Rule::reads_keys } -> std::convertible_to<bool>;
  { Rule::reads_values } -> std::convertible_to<bool>;
  rule.score(rows, out);
};

}  // namespace detail

/// A score for each token from the rows of its head alone: the same rows, the same scores.
///
/// - reads_keys, reads_values: what is not read is not fetched.
/// - Rule(config, heads, slots): work space for `slots` tokens; nothing is allocated afterwards.
/// - score(rows, out): one score a token, higher stays, in the order of rows; preferably not
///   negative. Tokens whose rows are not finite may get any score.
template <class Rule>
concept RowRule = detail::ScoresRows<Rule> &&
    std::constructible_from<Rule, const typename Rule::Config&, const HeadShape&, std::size_t>;

/// A score for each token from the rows of its head and from the queries so far: as RowRule, but
/// made with the ScoreShape in the place of the slots, shown queries (QueryReadingScorer), and with
/// a state that is saved and reset as a scorer's is.
template <class Rule>
concept QueryRowRule = detail::ScoresRows<Rule> && QueryReadingScorer<Rule> &&
    std::constructible_from<Rule, const typename Rule::Config&, const HeadShape&,
                            const ScoreShape&> &&
    requires(Rule rule, const Rule& constant, detail::StateWriter& writer,
             detail::StateReader& reader) {
  rule.reset();
  Rule::archive(writer, constant);
  Rule::archive(reader, rule);
  { constant.valid() } -> std::same_as<bool>;
};

/// A QueryRowRule that finds out, while it scores, that a head has come to need more tokens:
/// settle(layer, head) says that a round went by what it found, growth(layer, head) how many rounds
/// found so.
template <class Rule>
concept GrowthRule = QueryRowRule<Rule> &&
    requires(Rule rule, const Rule& constant, std::size_t index) {
  rule.settle(index, index);
  { constant.growth(index, index) } -> std::same_as<std::size_t>;
};

/// The settings of a rule that has none.
struct NoSettings {
  bool operator==(const NoSettings&) const = default;
};

namespace detail {

// Fixed, so that the order of the additions does not depend on the vector width.
inline constexpr std::size_t row_lanes = 8;
using RowLanes = std::array<double, row_lanes>;

[[nodiscard]] LETHE_EXACT inline double sum_lanes(const RowLanes& lanes) {
  LETHE_EXACT_BODY
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

/// Whether no channel is infinite or NaN. Integers all through: -ffast-math takes it for granted.
[[nodiscard]] inline bool is_finite_row(std::span<const float> row) {
  std::uint32_t largest = 0;
  for (const float channel : row) {
    const std::uint32_t size = std::bit_cast<std::uint32_t>(channel) & 0x7FFFFFFFu;
    largest = largest < size ? size : largest;
  }
  return largest < 0x7F800000u;
}

/// Makes the figure of every token NaN whose row is not finite. rows: none where they were not
/// read.
inline void spoil(const TokenRows& rows, std::span<float> figures) {
  if (rows.data.empty()) return;
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const std::uint32_t nan = is_finite_row(rows[i]) ? 0u : 0x7FC00000u;
    figures[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(figures[i]) | nan);
  }
}

/// The inner product of two rows of one length. Products of floats are exact in double, so fusing
/// them with the additions changes nothing.
[[nodiscard]] LETHE_INLINE LETHE_EXACT inline double dot(std::span<const float> a,
                                                         std::span<const float> b) {
  LETHE_EXACT_BODY
  const float* left = a.data();
  const float* right = b.data();
  const std::size_t whole = a.size() / row_lanes * row_lanes;
  RowLanes lanes{};
  for (std::size_t begin = 0; begin < whole; begin += row_lanes) {
    for (std::size_t lane = 0; lane < row_lanes; ++lane) {
      const std::size_t c = begin + lane;
      lanes[lane] = lanes[lane] + static_cast<double>(left[c]) * static_cast<double>(right[c]);
    }
  }
  for (std::size_t c = whole; c < a.size(); ++c) {
    const double product = static_cast<double>(left[c]) * static_cast<double>(right[c]);
    lanes[c - whole] = lanes[c - whole] + product;
  }
  return sum_lanes(lanes);
}

/// The sum of a row.
[[nodiscard]] LETHE_EXACT inline double sum(std::span<const float> row) {
  LETHE_EXACT_BODY
  const float* values = row.data();
  const std::size_t whole = row.size() / row_lanes * row_lanes;
  RowLanes lanes{};
  for (std::size_t begin = 0; begin < whole; begin += row_lanes) {
    for (std::size_t lane = 0; lane < row_lanes; ++lane) {
      lanes[lane] = lanes[lane] + static_cast<double>(values[begin + lane]);
    }
  }
  for (std::size_t c = whole; c < row.size(); ++c) {
    lanes[c - whole] = lanes[c - whole] + static_cast<double>(values[c]);
  }
  return sum_lanes(lanes);
}

/// The sum of a row's magnitudes, |row|_1.
[[nodiscard]] LETHE_EXACT inline double absolute_sum(std::span<const float> row) {
  LETHE_EXACT_BODY
  RowLanes lanes{};
  for (std::size_t begin = 0; begin < row.size(); begin += row_lanes) {
    const std::size_t count = row.size() - begin < row_lanes ? row.size() - begin : row_lanes;
    for (std::size_t lane = 0; lane < count; ++lane) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(row[begin + lane]) & 0x7FFFFFFFu;
      lanes[lane] = lanes[lane] + static_cast<double>(std::bit_cast<float>(bits));
    }
  }
  return sum_lanes(lanes);
}

/// |row|_2.
[[nodiscard]] LETHE_EXACT inline float length(std::span<const float> row) {
  LETHE_EXACT_BODY
  return static_cast<float>(std::sqrt(dot(row, row)));
}

/// 1 / value; 0 where there is nothing to divide by.
[[nodiscard]] LETHE_EXACT inline double reciprocal(double value) {
  LETHE_EXACT_BODY
  return value > 0 ? 1.0 / value : 0.0;
}

}  // namespace detail
}  // namespace lethe
