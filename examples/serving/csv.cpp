#include "csv.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "error.hpp"
#include "one_line.hpp"

namespace serving {
namespace {

std::string quoted(std::string_view text) { return "\"" + decoder::one_line(text) + "\""; }

template <class Number>
bool read(std::string_view text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end;
}

std::string_view trimmed(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

bool read_number(std::string_view text, double& number) { return read(text, number); }
bool read_count(std::string_view text, std::size_t& number) { return read(text, number); }

void refuse_row(const std::string& path, std::size_t row, const std::string& what) {
  throw decoder::Error(decoder::one_line(path) + ": row " + std::to_string(row) + ": " + what);
}

CsvReader::CsvReader(std::string path) : path_(std::move(path)), file_(path_) {
  if (!file_) throw decoder::Error(decoder::one_line(path_) + ": cannot be read");
  if (!std::getline(file_, line_)) throw decoder::Error(decoder::one_line(path_) + ": is empty");
  row_ = 1;
  split();
  headings_.assign(cells_.begin(), cells_.end());
}

std::size_t CsvReader::column(std::string_view heading) const {
  const auto found = std::find(headings_.begin(), headings_.end(), heading);
  if (found == headings_.end())
    throw decoder::Error(decoder::one_line(path_) + ": has no column " + quoted(heading));
  return static_cast<std::size_t>(found - headings_.begin());
}

bool CsvReader::has(std::string_view heading) const {
  return std::find(headings_.begin(), headings_.end(), heading) != headings_.end();
}

bool CsvReader::next() {
  while (std::getline(file_, line_)) {
    ++row_;
    if (trimmed(line_).empty()) continue;
    split();
    if (cells_.size() != headings_.size())
      refuse(std::to_string(cells_.size()) + " cells under " + std::to_string(headings_.size()) +
             " headings");
    return true;
  }
  return false;
}

void CsvReader::split() {
  cells_.clear();
  std::string_view rest = line_;
  for (;;) {
    const std::size_t comma = rest.find(',');
    cells_.push_back(trimmed(rest.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    rest.remove_prefix(comma + 1);
  }
}

double CsvReader::number(std::size_t column) const {
  double value = 0;
  if (!read_number(cell(column), value) || !std::isfinite(value) || value < 0)
    refuse(headings_[column] + " is " + quoted(cell(column)) + ": give a number of 0 or more");
  return value;
}

std::size_t CsvReader::count(std::size_t column, std::size_t least, std::size_t most) const {
  std::size_t value = 0;
  if (!read_count(cell(column), value) || value < least || value > most)
    refuse(headings_[column] + " is " + quoted(cell(column)) + ": give a whole number from " +
           std::to_string(least) + " to " + std::to_string(most));
  return value;
}

void CsvReader::refuse(const std::string& what) const { refuse_row(path_, row_, what); }

}  // namespace serving
