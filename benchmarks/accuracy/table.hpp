/// Reads rows of results and sums them up by cell.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace accuracy {

/// Whether a file of results may be absent.
enum class Missing : std::uint8_t { allowed, refused };

/// The rows of a file. A last line that was cut short by an interruption is taken off the file.
/// Throws decoder::Error for a file that cannot be read or holds anything else.
[[nodiscard]] std::vector<nlohmann::json> read_rows(const std::string& path, Missing missing);

/// A share and its 95% interval.
struct Share {
  std::size_t hits = 0;
  std::size_t count = 0;

  [[nodiscard]] double value() const;
  /// Wilson's interval.
  [[nodiscard]] double low() const;
  [[nodiscard]] double high() const;
};

/// All problems of a cell.
struct Summary {
  std::string model;
  std::string task;
  std::string policy;
  double budget = 100;
  bool is_pinned = false;
  std::string feeding;
  Share solved;
  Share answers;
  Share steps;
  double mean_kept = 0;
  double symbols = 0;
};

/// One summary a cell, in the order in which cells first come.
[[nodiscard]] std::vector<Summary> summarise(const std::vector<nlohmann::json>& rows);

/// The summaries as a table for the terminal.
[[nodiscard]] std::string summary_table(const std::vector<Summary>& summaries);

}  // namespace accuracy
