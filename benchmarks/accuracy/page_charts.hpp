/// The charts of the page.
#pragma once

#include <string>

#include "page_looks.hpp"
#include "results.hpp"

namespace accuracy {

/// Share of answers right, and below it of problems solved, against the share of the cache kept:
/// one row of charts a task, with and without pin.
[[nodiscard]] std::string kept_charts(const Results& results, const Study& study);

/// Share of lookups right by the symbols since the value was last mentioned, at each budget.
[[nodiscard]] std::string gap_charts(const Results& results, const Study& study);

/// Share of problems whose first error has come, by the place in the text, at each budget.
[[nodiscard]] std::string error_charts(const Results& results, const Study& study);

}  // namespace accuracy
