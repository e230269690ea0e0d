#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace decoder {

/// Fails early: throws Error when `path` cannot be written. An empty path is fine (no output).
void check_writable(const std::string& path);

/// Writes a whole file; throws Error when that fails.
void write_file(const std::string& path, std::string_view text);
/// Writes a whole file of parts that follow each other; as above.
void write_file(const std::string& path, std::span<const std::string_view> parts);

/// Writes JSON, indented; bytes that are no UTF-8 become U+FFFD. Nothing for an empty path.
void write_json(const std::string& path, const nlohmann::json& json);

/// Prints a note as one line on stderr; nothing for an empty one.
void tell(const std::string& note);

/// Reads a whole file; throws Error when it cannot be read or is empty.
std::string read_file(const std::string& path);

/// `text` cut after at most `limit` bytes, never inside a character; bad bytes become U+FFFD.
std::string excerpt(std::string_view text, std::size_t limit);

/// A table for the terminal: first column left, the others right, headings underlined.
///
/// @param rows  cells in plain ASCII, the headings first; all of the same length
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace decoder
