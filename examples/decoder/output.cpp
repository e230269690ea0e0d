#include "output.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "error.hpp"
#include "one_line.hpp"
#include "utf8.hpp"

namespace decoder {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(one_line(path) + ": " + what);
}

std::string pad(const std::string& cell, std::size_t wide, bool is_left) {
  const std::string space(wide - cell.size(), ' ');
  return is_left ? cell + space : space + cell;
}

}  // namespace

void check_writable(const std::string& path) {
  if (path.empty()) return;
  std::error_code ignored;
  const bool existed = std::filesystem::exists(path, ignored);
  const bool is_open = std::ofstream(path, std::ios::app).is_open();
  if (!is_open)
    refuse(path, "cannot be written: name a file in a folder that exists and that you own");
  if (!existed) std::filesystem::remove(path, ignored);
}

void write_file(const std::string& path, std::string_view text) {
  write_file(path, std::span(&text, 1));
}

void write_file(const std::string& path, std::span<const std::string_view> parts) {
  std::ofstream file(path, std::ios::binary);
  for (const std::string_view part : parts)
    file.write(part.data(), static_cast<std::streamsize>(part.size()));
  file.close();
  if (!file) refuse(path, "could not be written: is the disk full?");
}

void write_json(const std::string& path, const nlohmann::json& json) {
  if (path.empty()) return;
  write_file(path, json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void tell(const std::string& note) {
  if (!note.empty()) std::fprintf(stderr, "%s\n", note.c_str());
}

std::string read_file(const std::string& path) {
  std::error_code unknown;
  if (std::filesystem::exists(path, unknown) && !std::filesystem::is_regular_file(path, unknown))
    refuse(path, "is not a regular file: name a text file");
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    refuse(path, "cannot be read, or is empty: name a text file");
  return text.str();
}

std::string excerpt(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) {
    limit = text.size();
  } else {
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0U) == 0x80U) --limit;
  }
  std::string out;
  for (std::string_view rest = text.substr(0, limit); !rest.empty();) {
    const std::size_t size = utf8_character(rest);
    out += size == 0 ? std::string_view("\xEF\xBF\xBD") : rest.substr(0, size);
    rest.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return out;
}

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < rows[r].size(); ++i)
      out += (i > 0 ? "  " : "") + pad(rows[r][i], widths[i], i == 0);
    out += '\n';
    if (r > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i)
      out += (i > 0 ? "  " : "") + std::string(widths[i], '-');
    out += '\n';
  }
  return out;
}

}  // namespace decoder
