#pragma once

#include <cstddef>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace serving {

/// A file of comma-separated cells under one row of headings, read row by row.
///
/// What is wrong with it is thrown as decoder::Error, which names the file and the row (the
/// headings are row 1).
class CsvReader {
 public:
  /// Opens the file and reads the headings.
  explicit CsvReader(std::string path);

  /// Where the column with this heading is; throws when there is none.
  std::size_t column(std::string_view heading) const;
  bool has(std::string_view heading) const;

  /// Reads the next row that is not empty; false at the end. Throws when its cells are not as many
  /// as the headings.
  bool next();

  /// The cell of that column in the row read last.
  std::string_view cell(std::size_t column) const { return cells_[column]; }
  /// The same as a finite number of 0 or more.
  double number(std::size_t column) const;
  /// The same as a whole number in [least, most].
  std::size_t count(std::size_t column, std::size_t least, std::size_t most) const;

  const std::string& path() const { return path_; }
  /// Of the row read last; the headings are row 1.
  std::size_t row() const { return row_; }
  /// Throws "FILE: row N: what".
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  void split();

  std::string path_;
  std::ifstream file_;
  std::string line_;
  std::size_t row_ = 0;
  std::vector<std::string> headings_;
  std::vector<std::string_view> cells_;
};

/// The number that `text` is, all of it; false when it is none.
bool read_number(std::string_view text, double& number);
bool read_count(std::string_view text, std::size_t& number);

/// Throws decoder::Error "FILE: row N: what".
[[noreturn]] void refuse_row(const std::string& path, std::size_t row, const std::string& what);

}  // namespace serving
