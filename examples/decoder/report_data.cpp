#include "report_data.hpp"

#include <limits>

namespace decoder::report {
namespace {

const nlohmann::json* find(const nlohmann::json& tree, std::string_view pointer) {
  const nlohmann::json::json_pointer path{std::string(pointer)};
  return tree.contains(path) ? &tree.at(path) : nullptr;
}

double as_number(const nlohmann::json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::vector<double> as_numbers(const nlohmann::json& array) {
  std::vector<double> values;
  for (const auto& value : array) values.push_back(as_number(value));
  return values;
}

}  // namespace

bool has(const nlohmann::json& tree, std::string_view pointer) {
  const auto* found = find(tree, pointer);
  return found != nullptr && !found->is_null();
}

double number_at(const nlohmann::json& tree, std::string_view pointer) {
  const auto* found = find(tree, pointer);
  return found == nullptr ? std::numeric_limits<double>::quiet_NaN() : as_number(*found);
}

std::string text_at(const nlohmann::json& tree, std::string_view pointer) {
  const auto* found = find(tree, pointer);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

std::vector<double> numbers_at(const nlohmann::json& tree, std::string_view pointer) {
  const auto* found = find(tree, pointer);
  return found != nullptr && found->is_array() ? as_numbers(*found) : std::vector<double>();
}

std::vector<std::vector<double>> rows_at(const nlohmann::json& tree, std::string_view pointer) {
  std::vector<std::vector<double>> rows;
  const auto* found = find(tree, pointer);
  if (found == nullptr || !found->is_array()) return rows;
  for (const auto& row : *found) rows.push_back(as_numbers(row));
  return rows;
}

}  // namespace decoder::report
