#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "csv.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "profile.hpp"

namespace serving {
namespace {

constexpr double microsecond = 1e-6;

/// The curves of a table of operations, by the operation's name.
std::map<std::string, Curve> read_operations(const std::string& path, const char* points) {
  std::map<std::string, std::map<double, double>> cells;
  CsvReader csv(path);
  const std::size_t name = csv.column("layer");
  const std::size_t point = csv.column(points);
  const std::size_t time = csv.column("time_us");
  while (csv.next())
    cells[std::string(csv.cell(name))][csv.number(point)] = csv.number(time) * microsecond;
  std::map<std::string, Curve> curves;
  for (const auto& [operation, values] : cells) {
    std::vector<double> at;
    std::vector<double> seconds;
    for (const auto& [x, y] : values) {
      at.push_back(x);
      seconds.push_back(y);
    }
    curves.emplace(operation, Curve(std::move(at), std::move(seconds)));
  }
  return curves;
}

/// The sum of operations, each as often as a step runs it.
Curve sum_of(const std::string& path, const char* points,
             const std::vector<std::pair<const char*, double>>& times) {
  const auto curves = read_operations(path, points);
  Curve sum;
  for (const auto& [name, weight] : times) {
    const auto found = curves.find(name);
    if (found == curves.end())
      throw decoder::Error(decoder::one_line(path) + ": has no operation " + name);
    sum.add(found->second, weight);
  }
  return sum;
}

using Cells = std::map<std::array<double, 4>, double>;

Cells read_attention(const std::string& path) {
  CsvReader csv(path);
  const std::array<std::size_t, 4> columns{csv.column("prefill_chunk"), csv.column("kv_prefill"),
                                           csv.column("n_decode"), csv.column("kv_decode")};
  const std::size_t time = csv.column("time_us");
  Cells cells;
  while (csv.next()) {
    std::array<double, 4> key{};
    for (std::size_t i = 0; i < 4; ++i) key[i] = csv.number(columns[i]);
    cells[key] = csv.number(time) * microsecond;
  }
  if (cells.empty()) throw decoder::Error(decoder::one_line(path) + ": has no rows");
  return cells;
}

/// Names the row that is missing: 0 s in its place would pass for a figure.
[[noreturn]] void refuse_without(const std::string& path, const std::array<double, 4>& key) {
  const std::array<const char*, 4> columns{"prefill_chunk", "kv_prefill", "n_decode", "kv_decode"};
  std::string row;
  for (std::size_t i = 0; i < 4; ++i)
    row += std::string(i == 0 ? "" : ", ") + columns[i] + " " + std::to_string(std::lround(key[i]));
  throw decoder::Error(decoder::one_line(path) + ": has no row of " + row);
}

/// A cell; where it was not measured, the sum of prefill alone and decoding alone, which must have
/// been. Decoding reads nothing where there is no context.
double cell(const std::string& path, const Cells& cells, std::array<double, 4> key) {
  if (key[0] == 0) key[1] = 0;
  if (key[2] == 0) key[3] = 0;
  const auto found = cells.find(key);
  if (found != cells.end()) return found->second;
  if (key[0] == 0 && key[3] == 0) return 0;
  if (key[0] == 0 || key[2] == 0) refuse_without(path, key);
  return cell(path, cells, {key[0], key[1], 0, 0}) + cell(path, cells, {0, 0, key[2], key[3]});
}

Grid<4> attention_grid(const std::string& path) {
  const Cells cells = read_attention(path);
  std::array<std::vector<double>, 4> axes;
  for (std::size_t i = 0; i < 4; ++i) {
    std::map<double, bool> points{{0.0, true}};
    for (const auto& entry : cells) points[entry.first[i]] = true;
    for (const auto& entry : points) axes[i].push_back(entry.first);
    if (axes[i].size() < 2) throw decoder::Error(decoder::one_line(path) + ": has too few rows");
  }
  Grid<4> grid(axes);
  for (std::size_t a = 0; a < axes[0].size(); ++a)
    for (std::size_t b = 0; b < axes[1].size(); ++b)
      for (std::size_t c = 0; c < axes[2].size(); ++c)
        for (std::size_t d = 0; d < axes[3].size(); ++d)
          grid.at({a, b, c, d}) =
              cell(path, cells, {axes[0][a], axes[1][b], axes[2][c], axes[3][d]});
  return grid;
}

/// vLLM's sizes of CUDA graphs: 1, 2, 4, then steps of 8 to 256, of 16 to 512.
std::vector<double> graph_sizes() {
  std::vector<double> sizes{1, 2, 4};
  for (int size = 8; size <= 256; size += 8) sizes.push_back(size);
  for (int size = 272; size <= 512; size += 16) sizes.push_back(size);
  return sizes;
}

}  // namespace

StepTimes measured_times(const std::string& folder, const ModelShape& model) {
  const auto layers = static_cast<double>(model.layers);
  StepTimes::Tables tables;
  tables.layers = model.layers;
  tables.is_mixed = true;
  tables.tokens = sum_of(folder + "/dense.csv", "tokens",
                         {{"embedding", 1},
                          {"layernorm", 2 * layers},
                          {"qkv_proj", layers},
                          {"rotary_emb", layers},
                          {"o_proj", layers},
                          {"gate_up_proj", layers},
                          {"act_fn", layers},
                          {"down_proj", layers},
                          {"final_layernorm", 1}});
  tables.sequences =
      sum_of(folder + "/per_sequence.csv", "sequences", {{"lm_head", 1}, {"sampler", 1}});
  tables.mixed = attention_grid(folder + "/attention.csv");
  tables.graph_sizes = graph_sizes();
  return StepTimes(std::move(tables));
}

}  // namespace serving
