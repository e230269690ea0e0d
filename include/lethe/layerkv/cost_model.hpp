/// Costs from measurements: fitted to tables, refitted on line.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "lethe/config.hpp"
#include "lethe/layerkv/costs.hpp"
#include "lethe/layerkv/least_squares.hpp"
#include "lethe/numeric.hpp"

namespace lethe::layerkv {

/// Work, and the seconds it was measured to take.
template <class Work>
struct Measured {
  Work work{};
  double seconds = 0;
};

/// What a fit came to. An error of 0.1 is a fitted time 1.1 times the measured one, or as much
/// less.
template <class Cost>
struct Fit {
  Cost cost{};
  /// Measurements used, and those left out: no work, or seconds that cannot be.
  std::size_t used = 0;
  std::size_t refused = 0;
  double mean_error = 0;
  double worst_error = 0;
};

/// Settings of fit().
struct FitConfig {
  /// A fit whose mean relative error is larger is refused: these are not measurements of one
  /// machine, or not of this kind of work. Kernel tables of four GPUs leave 0.01 to 0.12.
  double most_mean_error = 0.5;

  bool operator==(const FitConfig&) const = default;
};

namespace detail {

/// Seconds that a clock may give for one piece of work: a nanosecond to an hour.
[[nodiscard]] inline bool possible_seconds(double seconds) {
  return is_finite_double(seconds) && seconds >= 1e-9 && seconds <= 3600;
}

[[nodiscard]] inline bool possible_work(const PrefillWork& work) { return work.tokens != 0; }
[[nodiscard]] inline bool possible_work(const DecodeWork& work) { return work.sequences != 0; }
[[nodiscard]] inline bool possible_work(const CopyWork& work) {
  return work.bytes != 0 && work.fragments != 0 && work.copies != 0;
}

template <class Work>
[[nodiscard]] bool possible(const Measured<Work>& row) {
  return possible_work(row.work) && possible_seconds(row.seconds);
}

[[nodiscard]] inline Triple coefficients(const PrefillCost& cost) {
  return {cost.base, cost.per_token, cost.per_pair};
}
[[nodiscard]] inline Triple coefficients(const DecodeCost& cost) {
  return {cost.base, cost.per_sequence, cost.per_token};
}
[[nodiscard]] inline Triple coefficients(const CopyCost& cost) {
  return {cost.per_copy, cost.per_fragment, cost.per_byte};
}

/// Whether more work takes more time. The first coefficient of passes and steps is a constant;
/// copies must grow with their bytes.
template <class Cost>
[[nodiscard]] bool grows(const Cost& cost) {
  const Triple c = coefficients(cost);
  return std::same_as<Cost, CopyCost> ? c[2] > 0 : c[1] > 0 || c[2] > 0;
}

[[nodiscard]] inline Triple divided(const Triple& features, double by) {
  return {features[0] / by, features[1] / by, features[2] / by};
}

template <class Cost>
void measure_errors(Fit<Cost>& fit, std::span<const Measured<typename Cost::Work>> rows) {
  double sum = 0;
  for (const Measured<typename Cost::Work>& row : rows) {
    if (!possible(row)) continue;
    const double ratio = fit.cost.seconds(row.work) / row.seconds;
    const double error = ratio >= 1 ? ratio - 1 : 1 / std::max(ratio, 1e-9) - 1;
    sum += error;
    fit.worst_error = std::max(fit.worst_error, error);
  }
  fit.mean_error = sum / static_cast<double>(fit.used);
}

}  // namespace detail

/// The cost whose relative errors have the least sum of squares, no coefficient below 0 (so that
/// more work never takes less time). Relative, since tables reach from microseconds to seconds.
/// Coefficients that the table cannot tell apart share arbitrarily: measure every size that varies
/// in use. Rows that cannot be are left out and counted.
///
/// Throws std::invalid_argument for fewer than 3 usable rows, for times that do not grow with the
/// work, and for a mean error above config.most_mean_error. O(rows), no allocation.
template <class Cost>
[[nodiscard]] Fit<Cost> fit(std::span<const Measured<typename Cost::Work>> rows,
                            const FitConfig& config = {}) {
  using lethe::detail::require;
  Fit<Cost> result;
  detail::LeastSquares equations;
  for (const Measured<typename Cost::Work>& row : rows) {
    if (!detail::possible(row)) continue;
    equations.add(detail::divided(detail::features(row.work), row.seconds), 1);
    ++result.used;
  }
  result.refused = rows.size() - result.used;
  require(result.used >= 3, "measurements", result.used,
          "give at least 3 with work in them and 1e-9 to 3600 seconds each");
  const detail::Triple best = equations.solve();
  result.cost = {best[0], best[1], best[2]};
  require(detail::grows(result.cost), "measurements", result.used,
          "their times do not grow with the work; measure several sizes");
  detail::measure_errors(result, rows);
  require(result.mean_error <= config.most_mean_error, "mean_error", result.mean_error,
          "the times do not follow the work; check units and columns, or raise most_mean_error");
  return result;
}

/// Settings of CostModel. Those of the refit were chosen by the tests in
/// tests/layerkv_cost_model_test.cpp: noise, outliers, constant work, a machine that slows down.
struct CostModelConfig {
  /// Where the model begins, and what holds coefficients that measurements say nothing about.
  Costs costs{};
  /// Each measurement counts so much less with every later one: 0.99 remembers about 100, a few
  /// seconds of decoding.
  double forgetting = 0.99;
  /// Measurements that the beginning counts as; they are forgotten as others are, but for a fifth
  /// of one.
  double confidence = 20;
  /// A time beyond so many times the predicted one, or as far below, counts as just that: one
  /// stall does not bend the model, and a machine that stays slower is followed step by step.
  double most_surprise = 2;

  bool operator==(const CostModelConfig&) const = default;
};

/// What became of the measurements that a model was shown.
struct RefitCounts {
  std::size_t used = 0;
  /// Not used: no work, or seconds that cannot be.
  std::size_t refused = 0;
  /// Used, but cut to most_surprise.
  std::size_t surprises = 0;

  bool operator==(const RefitCounts&) const = default;
};

namespace detail {

inline void check(const CostModelConfig& config) {
  using lethe::detail::require;
  const auto need = [](double value, const char* field) {
    require(is_finite_double(value) && value >= 0 && value <= 3600, field, value,
            "give seconds from 0 to 3600");
  };
  const Costs& costs = config.costs;
  need(costs.prefill.base, "costs.prefill.base");
  need(costs.prefill.per_token, "costs.prefill.per_token");
  need(costs.prefill.per_pair, "costs.prefill.per_pair");
  need(costs.decode.base, "costs.decode.base");
  need(costs.decode.per_sequence, "costs.decode.per_sequence");
  need(costs.decode.per_token, "costs.decode.per_token");
  need(costs.copy.per_copy, "costs.copy.per_copy");
  need(costs.copy.per_fragment, "costs.copy.per_fragment");
  need(costs.copy.per_byte, "costs.copy.per_byte");
  require(config.forgetting >= 0.5 && config.forgetting < 1, "forgetting", config.forgetting,
          "choose 0.5 to below 1");
  require(config.confidence >= 1 && config.confidence <= 1e6, "confidence", config.confidence,
          "choose 1 to 1e6 measurements");
  require(config.most_surprise > 1 && config.most_surprise <= 1e3, "most_surprise",
          config.most_surprise, "choose above 1 to 1000");
}

/// Recursive least squares with forgetting, in the form of normal equations. Work that never
/// varies cannot tell the coefficients apart; there the anchor decides, so none runs away.
template <class Cost>
class Refit {
 public:
  Refit(const Cost& anchor, const CostModelConfig& config)
      : anchor_(anchor), anchor_rows_(anchor == unknown ? 0 : config.confidence) {}

  bool add(const Measured<typename Cost::Work>& row, const CostModelConfig& config, Cost& cost) {
    if (!possible(row)) {
      ++counts_.refused;
      return false;
    }
    const double predicted = cost.seconds(row.work);
    const double unit = predicted > 0 ? predicted : row.seconds;
    const double surprise = row.seconds / unit;
    const double ratio = std::clamp(surprise, 1 / config.most_surprise, config.most_surprise);
    if (ratio != surprise) ++counts_.surprises;
    ++counts_.used;
    equations_.forget(config.forgetting);
    equations_.add(divided(features(row.work), unit), ratio);
    if (!(anchor_ == unknown)) {
      anchor_rows_ = std::max(least_anchor_rows, anchor_rows_ * config.forgetting);
    }
    const Triple best = equations_.solve(coefficients(anchor_), anchor_rows_);
    cost = {best[0], best[1], best[2]};
    return true;
  }

  [[nodiscard]] const RefitCounts& counts() const { return counts_; }

 private:
  // A beginning of zeros says nothing, and holds nothing.
  static constexpr Cost unknown{0, 0, 0};
  static constexpr double least_anchor_rows = 0.2;

  Cost anchor_;
  double anchor_rows_;
  LeastSquares equations_;
  RefitCounts counts_;
};

}  // namespace detail

/// Costs that follow what is measured while an engine runs. Of several ranks one observes and hands
/// its costs() to the others: clocks differ, and models refitted apart would decide apart.
class CostModel {
 public:
  /// Throws std::invalid_argument for a setting that cannot be.
  explicit CostModel(const CostModelConfig& config = {})
      : config_(checked(config)),
        costs_(config.costs),
        prefill_(config.costs.prefill, config),
        decode_(config.costs.decode, config),
        copy_(config.costs.copy, config) {}

  /// A pass that held this work alone took so many seconds. False when the measurement cannot be
  /// (no work, NaN, not 1e-9 to 3600 seconds); it is counted and changes nothing. O(1).
  bool observe(const PrefillWork& work, double seconds) {
    return prefill_.add({work, seconds}, config_, costs_.prefill);
  }
  /// The same of a decode step.
  bool observe(const DecodeWork& work, double seconds) {
    return decode_.add({work, seconds}, config_, costs_.decode);
  }
  /// The same of copies that had the link to themselves.
  bool observe(const CopyWork& work, double seconds) {
    return copy_.add({work, seconds}, config_, costs_.copy);
  }
  /// A pass that computed a chunk and decoded beside it took so many seconds: both parts are taken
  /// to be off in the same proportion. False when neither could use it. O(1).
  bool observe(const PrefillWork& chunk, const DecodeWork& beside, double seconds) {
    if (chunk.tokens == 0) return observe(beside, seconds);
    if (beside.sequences == 0) return observe(chunk, seconds);
    const double predicted = costs_.mixed_seconds(chunk, beside);
    const double ratio = predicted > 0 ? seconds / predicted : 0;
    const double of_chunk = costs_.prefill.seconds(chunk) * ratio;
    const double of_decode = costs_.decode.seconds(beside) * ratio;
    const bool used = observe(chunk, of_chunk);
    return observe(beside, of_decode) || used;
  }

  [[nodiscard]] const Costs& costs() const { return costs_; }
  [[nodiscard]] const RefitCounts& prefill_counts() const { return prefill_.counts(); }
  [[nodiscard]] const RefitCounts& decode_counts() const { return decode_.counts(); }
  [[nodiscard]] const RefitCounts& copy_counts() const { return copy_.counts(); }

 private:
  [[nodiscard]] static const CostModelConfig& checked(const CostModelConfig& config) {
    detail::check(config);
    return config;
  }

  CostModelConfig config_;
  Costs costs_;
  detail::Refit<PrefillCost> prefill_;
  detail::Refit<DecodeCost> decode_;
  detail::Refit<CopyCost> copy_;
};

}  // namespace lethe::layerkv
