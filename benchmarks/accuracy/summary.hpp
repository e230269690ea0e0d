/// Sums rows of results up by cell.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "statistics.hpp"

namespace accuracy {

/// What is asked of whom: a model, a task of a size, and who feeds the symbols.
struct Exam {
  std::string model;
  std::string feeding;
  std::string task;
  /// Variables, lines and steps.
  std::array<std::size_t, 3> size{};

  friend auto operator<=>(const Exam&, const Exam&) = default;
};

/// Where policies meet on equal terms: an exam, a budget in percent, and whether the prompt is
/// pinned.
struct Setting {
  Exam exam;
  bool is_pinned = false;
  double budget = 100;

  friend auto operator<=>(const Setting&, const Setting&) = default;
};

/// All problems of a cell: of one policy in one setting.
struct Summary {
  Setting setting;
  std::string policy;

  /// What policies are compared by.
  ClusteredShare answers;
  /// Each problem's answers, by its seed.
  std::map<std::uint64_t, Share> outcomes;
  /// Problems whose answers are all right.
  Share solved;
  Share steps;
  /// Answers and steps.
  ClusteredShare lookups;
  /// Lookups by gap: entry b counts gaps from 2^b to below 2^(b + 1).
  std::vector<Share> by_gap;
  /// Where each problem that has a wrong symbol has its first, as a share of its symbols.
  std::vector<double> first_errors;

  /// Sums over problems: tokens that a layer held, mean over layers and steps; and as many as the
  /// whole cache would have held.
  double kept = 0;
  double whole = 0;
  /// Sums over the problems that were timed.
  double timed_symbols = 0;
  double seconds = 0;
  /// Sum of peak bytes over the problems that have them.
  double bytes = 0;
  std::size_t weighed = 0;

  /// Share of the whole cache that was kept, mean over steps.
  [[nodiscard]] double kept_share() const { return whole > 0 ? kept / whole : 0; }
  /// NaN without times.
  [[nodiscard]] double tokens_per_second() const;
  /// Peak bytes of a cache, mean over problems; NaN without any.
  [[nodiscard]] double mean_bytes() const;
};

/// One summary a cell, in the order in which cells first come.
/// rows: of read_rows, none twice.
[[nodiscard]] std::vector<Summary> summarise(const std::vector<nlohmann::json>& rows);

}  // namespace accuracy
