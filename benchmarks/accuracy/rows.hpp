/// Files of results: rows of JSON, one a line.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace accuracy {

/// What a file of results is read for.
enum class Reading : std::uint8_t {
  /// Rows will be added: the file may be absent, and a last line that was cut short by an
  /// interruption is taken off it.
  to_append,
  /// The file stays as it is, and must hold rows; a last line cut short is left out with a note.
  only,
};

/// The rows of a file.
/// Throws decoder::Error for a file that cannot be read or holds anything else.
[[nodiscard]] std::vector<nlohmann::json> read_rows(const std::string& path, Reading reading);

/// The rows of several files, each problem of a cell once.
struct Merged {
  std::vector<nlohmann::json> rows;
  /// Rows left out because an equal one came before.
  std::size_t repeated = 0;
  /// Where the first of these stands.
  std::string first_repeat;
};

/// Joins files; of equal rows the first stays. What a run merely measured (its time and bytes) may
/// differ. Throws decoder::Error for two rows that contradict each other.
[[nodiscard]] Merged merge(const std::vector<std::string>& files);

/// The rows of several files. Throws decoder::Error for one that comes twice.
[[nodiscard]] std::vector<nlohmann::json> read_distinct(const std::vector<std::string>& files);

/// The rows as a file's text.
[[nodiscard]] std::string lines_of(const std::vector<nlohmann::json>& rows);

}  // namespace accuracy
