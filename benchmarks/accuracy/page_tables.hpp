/// The tables of the page.
#pragma once

#include <string>

#include "page_looks.hpp"
#include "paired.hpp"
#include "results.hpp"

namespace accuracy {

/// Share of answers right, a column a task, a row a policy, grouped by budget and pin.
[[nodiscard]] std::string answers_table(const Results& results, const Study& study);

/// How often each policy was found better or worse than the one compared with.
[[nodiscard]] std::string verdict_table(const Results& results, const Comparisons& comparisons);

/// Every comparison of the study, grouped by task, budget and pin.
[[nodiscard]] std::string comparison_panel(const Results& results, const Study& study,
                                           const Comparisons& comparisons);

/// Speed and bytes, grouped by budget and pin; "" when no row has them.
[[nodiscard]] std::string cost_panel(const Results& results, const Study& study);

}  // namespace accuracy
