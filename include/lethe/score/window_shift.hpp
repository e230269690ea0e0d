/// Mass of the last few queries, and how much it moved among them. CAKE.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/exact_log.hpp"
#include "lethe/score.hpp"
#include "lethe/score/neighbour_pool.hpp"
#include "lethe/score/window_rows.hpp"

namespace lethe {

/// Settings of WindowShift.
struct WindowShiftConfig {
  /// Queries that count; the published 32.
  std::size_t window = 32;
  /// Neighbours averaged, an odd number; 1: none; 5 in the authors' program.
  std::size_t pool = 5;
  /// gamma: what the variance weighs beside the mean; the published 200.
  float variance_weight = 200.0f;
  /// Query heads whose mass a score group sums: mean and variance are of their mean attention.
  std::size_t heads = 1;

  bool operator==(const WindowShiftConfig&) const = default;
};

/// Mean of the attention that the last `window` queries paid plus variance_weight times its
/// variance over them (of queries - 1), averaged over neighbours in position: a token that
/// attention comes back to may get more yet (CAKE, arXiv 2503.12491). The tokens of those queries
/// are no neighbours of the others, so let the policy protect as many. Also says how the window's
/// attention is spread and moves, for DispersionBudget. Memory: WindowRows'.
class WindowShift {
 public:
  using Config = WindowShiftConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "window shift";

  /// Throws std::invalid_argument when window or heads is 0, pool is even or variance_weight
  /// negative.
  WindowShift(const Config& config, const ScoreShape& shape)
      : window_(config.window),
        variance_weight_(static_cast<double>(checked(config).variance_weight)),
        share_(1.0 / static_cast<double>(config.heads)),
        rows_(config.window, shape),
        pool_(config.pool, Pooling::mean, shape.slots),
        means_(shape.slots, 0.0f),
        sums_(shape.slots, 0.0) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, query, first_slot, mass);
  }

  void advance(std::size_t queries) { rows_.advance(queries); }

  /// O(n x (window + pool)); a sort more where slots were overwritten.
  [[nodiscard]] LETHE_EXACT std::span<const float> score(std::size_t layer, std::size_t group,
                                                         std::span<const Position> positions,
                                                         std::span<float> scratch) {
    LETHE_EXACT_BODY
    const std::span<float> scores = scratch.first(positions.size());
    const double factor = find_moments(layer, group, scores.size()) * variance_weight_;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      // A float of its own, so that no compiler fuses the product with the addition.
      const float variance = static_cast<float>(sums_[i] * factor);
      scores[i] = mean_of(i) + variance;
    }
    const Position begin = window_begin();
    const auto before = std::count_if(positions.begin(), positions.end(),
                                      [=](Position position) { return position < begin; });
    pool_.apply(positions, static_cast<std::size_t>(before), scores);
    return scores;
  }

  /// Of the tokens before the window; shares of attention are not brought to a sum of 1, so that a
  /// layer that looks at its window alone has little of either. O(n x window).
  [[nodiscard]] LETHE_EXACT WindowStatistics
  window_statistics(std::size_t layer, std::size_t group, std::span<const Position> positions) {
    LETHE_EXACT_BODY
    const double factor = find_moments(layer, group, positions.size());
    const Position begin = window_begin();
    WindowStatistics found;
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (positions[i] >= begin) continue;
      const float variance = static_cast<float>(sums_[i] * factor);
      found.variance = found.variance + static_cast<double>(variance);
      const float mean = mean_of(i);
      // What is smaller adds nothing that a float would show.
      if (!(mean > 0x1p-60f)) continue;
      const float term = LETHE_PRODUCT(mean, exact_log(mean));
      found.entropy = found.entropy - static_cast<double>(term);
    }
    return found;
  }

  void keep(const EvictionPlan& plan, std::size_t group) { rows_.keep(plan, group); }
  void forget(std::size_t layer, std::size_t group, Slot slot) { rows_.forget(layer, group, slot); }
  void reset() { rows_.reset(); }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    WindowRows::archive(archive, self.rows_);
  }

  [[nodiscard]] bool valid() const { return rows_.valid(); }

 private:
  [[nodiscard]] static const Config& checked(const Config& config) {
    detail::require(config.heads >= 1, "heads", config.heads,
                    "give the query heads that a score group sums");
    detail::require(config.variance_weight >= 0.0f && is_finite(config.variance_weight),
                    "variance_weight", config.variance_weight, "choose 0 or more");
    return config;
  }

  /// Position of the oldest token that came with one of the window's queries.
  [[nodiscard]] Position window_begin() const {
    return static_cast<Position>(rows_.queries() -
                                 std::min<std::uint64_t>(rows_.queries(), window_));
  }

  /// The mean attention to a token, over queries and heads.
  [[nodiscard]] LETHE_EXACT float mean_of(std::size_t slot) const {
    LETHE_EXACT_BODY
    return static_cast<float>(static_cast<double>(means_[slot]) * share_);
  }

  /// Fills means_ with the mean mass of each of the first `tokens` slots and sums_ with the squared
  /// distances from it; returns what makes these the variance of attention.
  [[nodiscard]] LETHE_EXACT double find_moments(std::size_t layer, std::size_t group,
                                                std::size_t tokens) {
    LETHE_EXACT_BODY
    std::size_t count = 0;
    std::fill_n(sums_.begin(), tokens, 0.0);
    rows_.for_each_recent(layer, group, tokens, [&](std::span<const float> row) {
      add_row(row.data(), sums_.data(), tokens);
      ++count;
    });
    const double queries = static_cast<double>(count);
    const double part = count > 0 ? 1.0 / queries : 0.0;
    for (std::size_t i = 0; i < tokens; ++i) means_[i] = static_cast<float>(sums_[i] * part);
    std::fill_n(sums_.begin(), tokens, 0.0);
    rows_.for_each_recent(layer, group, tokens, [&](std::span<const float> row) {
      add_squares(row.data(), means_.data(), sums_.data(), tokens);
    });
    return count > 1 ? share_ * share_ / (queries - 1.0) : 0.0;
  }

  LETHE_EXACT static void add_row(const float* LETHE_RESTRICT row, double* LETHE_RESTRICT sums,
                                  std::size_t tokens) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < tokens; ++i) sums[i] = sums[i] + static_cast<double>(row[i]);
  }

  /// The square of a float is exact in double: fusing it with the addition changes nothing.
  LETHE_EXACT static void add_squares(const float* LETHE_RESTRICT row,
                                      const float* LETHE_RESTRICT means,
                                      double* LETHE_RESTRICT sums, std::size_t tokens) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < tokens; ++i) {
      const float distance = row[i] - means[i];
      sums[i] = sums[i] + static_cast<double>(distance) * static_cast<double>(distance);
    }
  }

  std::size_t window_;
  double variance_weight_;
  double share_;
  WindowRows rows_;
  NeighbourPool pool_;
  /// Work space: each token's mean mass, and a sum over the queries.
  std::vector<float> means_;
  std::vector<double> sums_;
};
static_assert(TokenScorer<WindowShift> && WindowScorer<WindowShift>);

}  // namespace lethe
