#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace decoder::report {

/// The number at a JSON pointer such as "/speed/seconds"; NaN where there is none.
double number_at(const nlohmann::json& tree, std::string_view pointer);

/// The text at a JSON pointer; empty where there is none.
std::string text_at(const nlohmann::json& tree, std::string_view pointer);

/// The array of numbers at a JSON pointer, NaN for null entries; empty where there is none.
std::vector<double> numbers_at(const nlohmann::json& tree, std::string_view pointer);

/// The array of arrays of numbers at a JSON pointer; empty where there is none.
std::vector<std::vector<double>> rows_at(const nlohmann::json& tree, std::string_view pointer);

/// Whether something is there.
bool has(const nlohmann::json& tree, std::string_view pointer);

}  // namespace decoder::report
