/// Results as tables for the terminal, and as a small file to keep.
#pragma once

#include <optional>
#include <string>

#include "paired.hpp"
#include "results.hpp"

namespace accuracy {

/// One line a cell.
[[nodiscard]] std::string summary_table(const Results& results);

/// One line a comparison, with a note on what the figures mean.
[[nodiscard]] std::string comparison_table(const Comparisons& comparisons);

/// The results as JSON, small enough to keep: a list of settings, in each the policies, one a line,
/// with shares as [hits, count, low, high] and with the comparison, if there is one.
[[nodiscard]] std::string summary_json(const Results& results,
                                       const std::optional<Comparisons>& comparisons);

}  // namespace accuracy
