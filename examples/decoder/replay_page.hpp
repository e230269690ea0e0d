#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace decoder {

/// Turns the results of `decoder replay` into one self-contained HTML page: a table, what each
/// policy loses by the tokens it keeps, and by layer at each budget.
[[nodiscard]] std::string replay_page(const nlohmann::json& results);

}  // namespace decoder
