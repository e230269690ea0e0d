#include <algorithm>
#include <array>
#include <vector>

#include "profile.hpp"
#include "small_kernels.hpp"

namespace serving {
namespace {

/// Of a data sheet's rates, what kernels reach: the measured tables' large products do.
constexpr double reached = 2.0 / 3.0;
/// A kernel takes so long at least.
constexpr double shortest_kernel = 2e-6;

const std::array<double, 14> table_rows{1,   8,    16,   32,   64,   128,   256,
                                        512, 1024, 2048, 4096, 8192, 16384, 32768};

/// The larger of arithmetic and memory traffic.
double roofline(double operations, double bytes, const GpuSheet& gpu) {
  return std::max(operations / gpu.flops, bytes / gpu.memory_bandwidth) / reached;
}

Curve product_curve(double weights, double value_bytes, const GpuSheet& gpu) {
  std::vector<double> times;
  for (const double rows : table_rows)
    times.push_back(roofline(2 * weights * rows, weights * value_bytes, gpu));
  return {{table_rows.begin(), table_rows.end()}, std::move(times)};
}

Curve prefill_curve(const ModelShape& model, const GpuSheet& gpu, double gpus) {
  std::vector<double> tokens;
  std::vector<double> times;
  const double width = static_cast<double>(model.heads * model.head_width) / gpus;
  for (double at = 16; at <= 1 << 18; at *= 1.25) {
    tokens.push_back(at);
    // Two products over half of a square.
    times.push_back(shortest_kernel + 2 * width * at * at / gpu.flops / reached);
  }
  return {std::move(tokens), std::move(times)};
}

Grid<2> decode_grid(const ModelShape& model, const GpuSheet& gpu, double gpus) {
  const double bytes = static_cast<double>(model.token_bytes()) / gpus;
  Grid<2> grid({std::vector<double>{1, 4096}, std::vector<double>{1, 1 << 18}});
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t c = 0; c < 2; ++c)
      grid.at({b, c}) = shortest_kernel +
                        grid.axis(0)[b] * grid.axis(1)[c] * bytes / gpu.memory_bandwidth / reached;
  return grid;
}

}  // namespace

Curve small_kernels(const ModelShape& model, const GpuSheet& gpu, std::size_t gpus,
                    const std::vector<double>& tokens) {
  const auto count = static_cast<double>(gpus);
  const auto value = static_cast<double>(model.value_bytes);
  const auto width = static_cast<double>(model.width);
  // Values read and written for a token: two norms with their residuals, the activation, rotation.
  const double values =
      8 * width + 3 * static_cast<double>(model.inner_width) / count +
      2 * static_cast<double>((model.heads + model.kv_heads) * model.head_width) / count;
  std::vector<double> times;
  for (const double at : tokens) {
    double layer = 4 * shortest_kernel + at * values * value / gpu.memory_bandwidth;
    if (gpus > 1) layer += 2 * (10e-6 + at * width * value / gpu.collective_bandwidth);
    times.push_back(static_cast<double>(model.layers) * layer);
  }
  return {tokens, std::move(times)};
}

StepTimes estimated_times(const ModelShape& model, const GpuSheet& gpu, std::size_t gpus) {
  const auto count = static_cast<double>(gpus);
  const double last = static_cast<double>(model.vocabulary * model.width);
  const auto value = static_cast<double>(model.value_bytes);
  StepTimes::Tables tables;
  tables.layers = model.layers;
  tables.tokens = product_curve((model.parameters() - 2 * last) / count, value, gpu);
  tables.tokens.add(small_kernels(model, gpu, gpus, tables.tokens.points()), 1);
  tables.sequences = product_curve(last / count, value, gpu);
  tables.prefill = prefill_curve(model, gpu, count);
  tables.decode = decode_grid(model, gpu, count);
  return StepTimes(std::move(tables));
}

}  // namespace serving
