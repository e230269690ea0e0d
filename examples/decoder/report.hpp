#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace decoder {

/// Turns the results of `decoder compare` into one self-contained HTML page.
///
/// @param results  the same structure that --json writes; parts that are absent (a run that was
///                 interrupted) leave their figures out
/// @return a page with its style and its pictures inside; it needs no network and no script
/// @throws nlohmann::json::exception when `results` has no array "runs"
/// Complexity: O(size of the results).
std::string html_report(const nlohmann::json& results);

}  // namespace decoder
