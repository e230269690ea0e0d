#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "csv.hpp"
#include "error.hpp"
#include "one_line.hpp"
#include "profile.hpp"
#include "small_kernels.hpp"

namespace serving {
namespace {

constexpr double millisecond = 1e-3;
/// Longer contexts than any trace's; tables are extended so far.
constexpr double longest_context = 1 << 18;

std::vector<double> ascending(const std::set<double>& points) {
  return {points.begin(), points.end()};
}

/// Matrix products by their three sizes.
class Products {
 public:
  explicit Products(const std::string& path) : path_(path) {
    CsvReader csv(path);
    const std::array<std::size_t, 3> columns{csv.column("m"), csv.column("n"), csv.column("k")};
    const std::size_t time = csv.column("latency_ms");
    std::array<std::set<double>, 3> points;
    while (csv.next()) {
      std::array<double, 3> size{};
      for (std::size_t i = 0; i < 3; ++i) size[i] = csv.number(columns[i]);
      if (size[2] > widest) continue;
      for (std::size_t i = 0; i < 3; ++i) points[i].insert(size[i]);
      cells_[size] = csv.number(time) * millisecond;
    }
    fill({ascending(points[0]), ascending(points[1]), ascending(points[2])});
  }

  /// Seconds by rows, of a product with a matrix of n x k.
  Curve by_rows(double n, double k) const {
    std::vector<double> times;
    for (const double rows : grid_.axis(0)) times.push_back(seconds(rows, n, k));
    return {grid_.axis(0), std::move(times)};
  }

 private:
  /// Few shapes have a larger k, and not for every n.
  static constexpr double widest = 16384;

  void fill(std::array<std::vector<double>, 3> axes) {
    for (const auto& axis : axes)
      if (axis.size() < 2) throw decoder::Error(decoder::one_line(path_) + ": has too few sizes");
    grid_ = Grid<3>(axes);
    for (std::size_t m = 0; m < axes[0].size(); ++m)
      for (std::size_t n = 0; n < axes[1].size(); ++n)
        for (std::size_t k = 0; k < axes[2].size(); ++k)
          grid_.at({m, n, k}) = cell({axes[0][m], axes[1][n], axes[2][k]});
  }

  double cell(const std::array<double, 3>& size) const {
    const auto found = cells_.find(size);
    if (found != cells_.end()) return found->second;
    throw decoder::Error(decoder::one_line(path_) + ": has no product of m " +
                         std::to_string(std::lround(size[0])) + ", n " +
                         std::to_string(std::lround(size[1])) + ", k " +
                         std::to_string(std::lround(size[2])));
  }

  double seconds(double rows, double n, double k) const {
    const double most = grid_.axis(1).back();
    double sum = 0;
    for (; n > most; n -= most) sum += grid_({rows, most, k});
    return sum + grid_({rows, n, k});
  }

  std::string path_;
  std::map<std::array<double, 3>, double> cells_;
  Grid<3> grid_;
};

/// Attention by its two sizes, of one shape of heads.
using Sizes = std::map<std::pair<double, double>, double>;

Sizes read_attention(const std::string& path, std::size_t heads, std::size_t kv_heads) {
  CsvReader csv(path);
  const std::size_t batch = csv.column("batch");
  const std::size_t length = csv.column("isl");
  const std::size_t step = csv.column("step");
  const std::size_t head = csv.column("heads");
  const std::size_t kv_head = csv.column("kv_heads");
  const std::size_t time = csv.column("latency_ms");
  Sizes cells;
  while (csv.next())
    if (csv.number(head) == static_cast<double>(heads) &&
        csv.number(kv_head) == static_cast<double>(kv_heads))
      cells[{csv.number(batch), csv.number(length) + csv.number(step)}] =
          csv.number(time) * millisecond;
  if (cells.size() < 4)
    throw decoder::Error(decoder::one_line(path) + ": has no rows of " + std::to_string(heads) +
                         " heads and " + std::to_string(kv_heads) + " KV heads");
  return cells;
}

/// Attention of one prompt; longer ones than measured grow with the square of their length.
Curve prefill_curve(const Sizes& cells) {
  std::vector<double> tokens;
  std::vector<double> times;
  for (const auto& [size, seconds] : cells) {
    if (size.first != 1) break;
    tokens.push_back(size.second);
    times.push_back(seconds);
  }
  if (tokens.empty()) return {};
  const double last = tokens.back();
  const double last_time = times.back();
  for (double at = last * 1.25; at < longest_context; at += last / 4) {
    tokens.push_back(at);
    times.push_back(last_time * (at / last) * (at / last));
  }
  return {std::move(tokens), std::move(times)};
}

/// Attention of a batch; what was not measured is twice that of half the batch.
Grid<2> decode_grid(const Sizes& cells) {
  std::set<double> batches;
  std::set<double> contexts;
  for (const auto& entry : cells) {
    batches.insert(entry.first.first);
    contexts.insert(entry.first.second);
  }
  Grid<2> grid({ascending(batches), ascending(contexts)});
  for (std::size_t b = 0; b < batches.size(); ++b)
    for (std::size_t c = 0; c < contexts.size(); ++c) {
      const auto found = cells.find({grid.axis(0)[b], grid.axis(1)[c]});
      if (found != cells.end())
        grid.at({b, c}) = found->second;
      else if (b > 0)
        grid.at({b, c}) = grid.at({b - 1, c}) * grid.axis(0)[b] / grid.axis(0)[b - 1];
      else if (c > 0)
        grid.at({b, c}) = grid.at({b, c - 1}) * grid.axis(1)[c] / grid.axis(1)[c - 1];
    }
  return grid;
}

/// All products of a step but the last layer's, on each of the GPUs.
Curve layer_products(const Products& products, const ModelShape& model, double gpus) {
  const auto width = static_cast<double>(model.width);
  const auto head_width = static_cast<double>(model.head_width);
  const double queries = static_cast<double>(model.heads) * head_width / gpus;
  const double keys = static_cast<double>(model.kv_heads) * head_width / gpus;
  const double inner = static_cast<double>(model.inner_width) / gpus;
  const auto layers = static_cast<double>(model.layers);
  Curve sum;
  sum.add(products.by_rows(queries + 2 * keys, width), layers);
  sum.add(products.by_rows(width, queries), layers);
  sum.add(products.by_rows(2 * inner, width), layers);
  sum.add(products.by_rows(width, inner), layers);
  return sum;
}

}  // namespace

StepTimes kernel_times(const std::string& prefix, const ModelShape& model, const GpuSheet& gpu,
                       std::size_t gpus) {
  const auto count = static_cast<double>(gpus);
  if (model.kv_heads % gpus != 0)
    throw decoder::Error("--gpus " + std::to_string(gpus) + ": does not divide the " +
                         std::to_string(model.kv_heads) + " KV heads of " + model.name);
  const Products products(prefix + "_gemm_bf16.csv");
  StepTimes::Tables tables;
  tables.layers = model.layers;
  tables.tokens = layer_products(products, model, count);
  tables.tokens.add(small_kernels(model, gpu, gpus, tables.tokens.points()), 1);
  tables.sequences = products.by_rows(static_cast<double>(model.vocabulary) / count,
                                      static_cast<double>(model.width));
  const std::size_t heads = model.heads / gpus;
  const std::size_t kv_heads = model.kv_heads / gpus;
  tables.prefill =
      prefill_curve(read_attention(prefix + "_context_attention_bf16.csv", heads, kv_heads));
  tables.decode =
      decode_grid(read_attention(prefix + "_generation_attention_bf16.csv", heads, kv_heads));
  return StepTimes(std::move(tables));
}

}  // namespace serving
