#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace decoder::report {

/// A table of a page.
struct Table {
  std::string caption;
  std::vector<std::string> headings;
  std::vector<std::vector<std::string>> rows;  ///< cells as HTML; the first is the row's heading
};

/// The table as HTML; "" for one without rows.
std::string draw(const Table& table);

/// Fidelity of each pruned run, one table for all tokens, one for long-gap tokens; "" without any.
std::string fidelity_tables(const nlohmann::json& results);

/// Speed and memory of each run.
std::string cost_table(const nlohmann::json& results);

/// Time spent in lethe by phase, beside the time of the step; "" without any.
std::string phase_table(const nlohmann::json& results);

/// Repetition in the text and in what each run wrote by itself; "" without any.
std::string loop_table(const nlohmann::json& results);

/// Two columns, name and value, from the members of an object; "" when it is absent.
std::string settings_table(const nlohmann::json& object, const std::string& caption);

/// A small marker in a run's colour, for the first column of tables.
std::string swatch(std::size_t style);

}  // namespace decoder::report
