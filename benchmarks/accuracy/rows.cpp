#include "rows.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "cell.hpp"
#include "error.hpp"
#include "output.hpp"

namespace accuracy {
namespace {

using nlohmann::json;

bool has(const json& row, const char* field, bool (json::*is_type)() const noexcept) {
  const auto found = row.find(field);
  return found != row.end() && ((*found).*is_type)();
}

bool is_counts(const json& value, std::size_t entries) {
  return value.is_array() && value.size() == entries &&
         std::all_of(value.begin(), value.end(),
                     [](const json& each) { return each.is_number_unsigned(); });
}

/// [right, all].
bool is_share(const json& row, const char* field) {
  const auto found = row.find(field);
  return found != row.end() && is_counts(*found, 2) &&
         found->at(0).get<std::size_t>() <= found->at(1).get<std::size_t>();
}

/// [[right, wrong], ...], one for each power of two.
bool is_gaps(const json& row) {
  const auto found = row.find("by_gap");
  return found != row.end() && found->is_array() && found->size() <= 64 &&
         std::all_of(found->begin(), found->end(),
                     [](const json& each) { return is_counts(each, 2); });
}

/// A number, not below zero, that may be absent.
bool is_measure(const json& row, const char* field) {
  const auto found = row.find(field);
  return found == row.end() || (found->is_number() && found->get<double>() >= 0);
}

bool is_cell(const json& row) {
  const auto is_text = [&](const char* field) { return has(row, field, &json::is_string); };
  if (!is_text("model") || !is_text("task") || !is_text("policy") || !is_text("feeding"))
    return false;
  if (!row.contains("size") || !is_counts(row["size"], 3)) return false;
  if (!has(row, "budget", &json::is_number) || !has(row, "pinned", &json::is_boolean)) return false;
  const double budget = row["budget"];
  return budget > 0 && budget <= 100 && has(row, "seed", &json::is_number_unsigned);
}

bool is_row(const json& row) {
  if (!row.is_object() || !is_cell(row)) return false;
  const auto is_count = [&](const char* field) {
    return has(row, field, &json::is_number_unsigned);
  };
  if (!is_count("symbols") || !is_count("prompt") || row["prompt"] >= row["symbols"]) return false;
  if (!has(row, "solved", &json::is_boolean) || !has(row, "mean_kept", &json::is_number))
    return false;
  if (row.contains("first_error") &&
      (!is_count("first_error") || row["first_error"] >= row["symbols"]))
    return false;
  return is_share(row, "answers") && is_share(row, "steps") && is_gaps(row) &&
         is_measure(row, "mean_kept") && is_measure(row, "seconds") && is_measure(row, "bytes");
}

std::string place(const std::string& path, std::size_t line) {
  return path + " line " + std::to_string(line);
}

/// `whole`: bytes of the lines before the last.
void leave_out_last(const std::string& path, std::uintmax_t whole, Reading reading) {
  if (reading == Reading::to_append) {
    std::filesystem::resize_file(path, whole);
  } else {
    decoder::tell(path + ": its last line was cut short and is left out");
  }
}

/// What came of a row's problem, without what was merely measured.
json result_of(json row) {
  row.erase("seconds");
  row.erase("bytes");
  return row;
}

/// Puts rows together, and remembers where each came from.
class Merger {
 public:
  void add(const std::string& path, std::vector<json> rows) {
    for (std::size_t i = 0; i < rows.size(); ++i) add(place(path, i + 1), std::move(rows[i]));
  }

  [[nodiscard]] Merged take() { return std::move(merged_); }

 private:
  struct Origin {
    std::size_t index = 0;
    std::string place;
  };

  void add(const std::string& at, json row) {
    const auto [found, is_new] =
        origins_.try_emplace(key_of(row), Origin{.index = merged_.rows.size(), .place = at});
    if (is_new) {
      merged_.rows.push_back(std::move(row));
      return;
    }
    const Origin& first = found->second;
    if (result_of(std::move(row)) != result_of(merged_.rows[first.index])) {
      throw decoder::Error(at + " contradicts " + first.place +
                           ": one problem and cell, two results; leave out the file whose model "
                           "or program is not the one you mean");
    }
    if (merged_.repeated++ == 0) merged_.first_repeat = at + " repeats " + first.place;
  }

  Merged merged_;
  std::unordered_map<std::string, Origin> origins_;
};

}  // namespace

std::vector<json> read_rows(const std::string& path, Reading reading) {
  if (reading == Reading::to_append && !std::filesystem::exists(path)) return {};
  std::ifstream in(path, std::ios::binary);
  if (!in) throw decoder::Error("cannot read " + path);
  std::vector<json> rows;
  std::string line;
  std::uintmax_t whole = 0;
  while (std::getline(in, line)) {
    json row = json::parse(line, nullptr, false);
    const bool is_good = is_row(row);
    if (in.eof() && (reading == Reading::to_append || !is_good)) {  // the last line has no end
      leave_out_last(path, whole, reading);
      break;
    }
    if (!is_good) {
      throw decoder::Error(place(path, rows.size() + 1) +
                           " is no row of results: give a file that `accuracy run` wrote");
    }
    whole += line.size() + 1;
    rows.push_back(std::move(row));
  }
  if (reading == Reading::only && rows.empty())
    throw decoder::Error(path + " holds no rows: give a file that `accuracy run` wrote");
  return rows;
}

Merged merge(const std::vector<std::string>& files) {
  Merger merger;
  for (const std::string& file : files) merger.add(file, read_rows(file, Reading::only));
  return merger.take();
}

std::vector<json> read_distinct(const std::vector<std::string>& files) {
  Merged merged = merge(files);
  if (merged.repeated != 0)
    throw decoder::Error(merged.first_repeat +
                         ": give each row once, or join the files with `accuracy merge`");
  return std::move(merged.rows);
}

std::string lines_of(const std::vector<json>& rows) {
  std::string text;
  for (const json& row : rows) text += row.dump() + '\n';
  return text;
}

}  // namespace accuracy
