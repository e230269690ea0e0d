#include "cost_tables.hpp"

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "csv.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "output.hpp"

namespace serving {
namespace {

namespace layerkv = lethe::layerkv;
using nlohmann::json;

constexpr std::size_t most_count = std::size_t{1} << 48;
/// What the library takes as a measured time and as a coefficient.
constexpr double shortest_time = 1e-9;
constexpr double longest_time = 3600;

/// The rows of a table whose work has these columns; `work` makes it of their counts.
template <class Rows, std::size_t Columns, class Make>
Rows read_rows(const std::string& path, const std::array<const char*, Columns>& headings,
               const std::array<std::size_t, Columns>& least, const Make& work) {
  CsvReader csv(path);
  std::array<std::size_t, Columns> columns{};
  for (std::size_t i = 0; i < Columns; ++i) columns[i] = csv.column(headings[i]);
  const std::size_t time = csv.column("seconds");
  Rows rows;
  while (csv.next()) {
    std::array<std::size_t, Columns> counts{};
    for (std::size_t i = 0; i < Columns; ++i)
      counts[i] = csv.count(columns[i], least[i], most_count);
    const double seconds = csv.number(time);
    if (seconds < shortest_time || seconds > longest_time)
      csv.refuse("seconds is \"" + decoder::one_line(csv.cell(time)) + "\": give 1e-9 to 3600");
    rows.push_back({work(counts), seconds});
  }
  return rows;
}

double coefficient(const json& part, const std::string& path, const std::string& name,
                   const char* key) {
  const auto found = part.is_object() ? part.find(key) : part.end();
  if (!part.is_object() || found == part.end() || !found->is_number())
    throw decoder::Error(decoder::one_line(path) + ": has no number " + name + "." + key);
  const double value = found->get<double>();
  if (!(value >= 0 && value <= longest_time))
    throw decoder::Error(decoder::one_line(path) + ": " + name + "." + key + " is " +
                         found->dump() + ": give seconds from 0 to 3600");
  return value;
}

template <class Cost>
std::optional<Cost> read_part(const json& all, const std::string& path, const std::string& name,
                              const std::array<const char*, 3>& keys) {
  const auto part = all.find(name);
  if (part == all.end()) return {};
  return Cost{coefficient(*part, path, name, keys[0]), coefficient(*part, path, name, keys[1]),
              coefficient(*part, path, name, keys[2])};
}

}  // namespace

PrefillRows read_prefill_rows(const std::string& path) {
  return read_rows<PrefillRows, 2>(path, {"tokens", "context"}, {1, 0}, [](const auto& counts) {
    return layerkv::PrefillWork{counts[0], counts[1]};
  });
}

DecodeRows read_decode_rows(const std::string& path) {
  return read_rows<DecodeRows, 2>(path, {"sequences", "context"}, {1, 0}, [](const auto& counts) {
    return layerkv::DecodeWork{counts[0], counts[1]};
  });
}

CopyRows read_copy_rows(const std::string& path) {
  return read_rows<CopyRows, 3>(path, {"bytes", "fragments", "copies"}, {1, 1, 1},
                                [](const auto& counts) {
                                  return layerkv::CopyWork{counts[0], counts[1], counts[2]};
                                });
}

PartialCosts read_costs(const std::string& path) {
  const json all = json::parse(decoder::read_file(path), nullptr, false);
  if (!all.is_object()) throw decoder::Error(decoder::one_line(path) + ": is no JSON object");
  PartialCosts costs{.prefill = read_part<layerkv::PrefillCost>(all, path, "prefill",
                                                                {"base", "per_token", "per_pair"}),
                     .decode = read_part<layerkv::DecodeCost>(
                         all, path, "decode", {"base", "per_sequence", "per_token"}),
                     .copy = read_part<layerkv::CopyCost>(
                         all, path, "copy", {"per_copy", "per_fragment", "per_byte"})};
  if (!costs.prefill && !costs.decode && !costs.copy)
    throw decoder::Error(decoder::one_line(path) +
                         ": has none of prefill, decode and copy: give what serving fit wrote");
  return costs;
}

layerkv::Costs completed(const PartialCosts& known, const layerkv::Costs& costs) {
  return {known.prefill.value_or(costs.prefill), known.decode.value_or(costs.decode),
          known.copy.value_or(costs.copy)};
}

}  // namespace serving
