#include "launches.hpp"

#include <algorithm>
#include <memory>

#include "grid.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/observe_checks.hpp"

namespace launches {
namespace {

using lethe::gpu::Compaction;
using lethe::gpu::Status;
using simulated_device::Grid;
constexpr unsigned threads = 32;

template <class Body>
Status launch(const char* name, cudaStream_t stream, Grid grid, Body body) {
  return simulated_device::launch_grid<threads>(name, stream, grid, body);
}

Status plan_pages(const Compaction& given, const Grid& grid, cudaStream_t stream) {
  return launch("plan_pages_kernel", stream, grid,
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t) {
                  plan_pages_block(block, given, row, layer);
                });
}

Status publish_pages(const Compaction& given, const Grid& grid, cudaStream_t stream) {
  return launch("publish_pages_kernel", stream, grid,
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t) {
                  publish_pages_block(block, given, row, layer);
                });
}

}  // namespace

Status plan_round(const lethe::gpu::Round& round, cudaStream_t stream) {
  const Status status = check(round);
  if (!status.ok() || round.batch.rows == 0) return status;
  const auto shared = std::make_shared<lethe::gpu::detail::PlanShared>();
  return launch("plan_kernel", stream, {round.batch.rows, round.state.shape.layers},
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t) {
                  plan_block(block, *shared, round, layer, row);
                });
}

Status compact(const Compaction& given, cudaStream_t stream) {
  Status status = check(given);
  if (!status.ok() || given.batch.rows == 0) return status;
  const bool paged = given.page_count != 0;
  const Grid tables{given.batch.rows, given.plans.layers};
  if (paged) status = plan_pages(given, tables, stream);
  if (!status.ok()) return status;
  status = launch("compact_kernel", stream, {strips_of(given), tables.x, tables.y},
                  [=](const auto& block, std::uint32_t strip, std::uint32_t row,
                      std::uint32_t layer) { compact_block(block, given, strip, row, layer); });
  return status.ok() && paged ? publish_pages(given, tables, stream) : status;
}

Status start_sequences(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
                       std::uint32_t threshold, cudaStream_t stream) {
  const Status status = lethe::gpu::check("start_sequences", state, batch);
  if (!status.ok() || batch.rows == 0) return status;
  const std::uint32_t most = std::min(threshold, state.shape.capacity);
  return launch("start_kernel", stream, {batch.rows},
                [=](const auto& block, std::uint32_t row, std::uint32_t, std::uint32_t) {
                  start_block(block, state, batch, most, row);
                });
}

Status append(const lethe::gpu::State& state, const lethe::gpu::Batch& batch, std::uint32_t tokens,
              cudaStream_t stream) {
  const Status status = lethe::gpu::check("append", state, batch);
  if (!status.ok() || batch.rows == 0) return status;
  return launch("append_kernel", stream, {batch.rows},
                [=](const auto& block, std::uint32_t row, std::uint32_t, std::uint32_t) {
                  append_block(block, state, batch, tokens, row);
                });
}

template <class Observation>
Status observe(const lethe::gpu::ObservedLayer& layer,
               const lethe::gpu::BatchObservation<Observation>& seen, cudaStream_t stream) {
  const Status status = check(layer, seen);
  if (!status.ok() || layer.batch.rows == 0) return status;
  const std::uint32_t tiles = (layer.state.shape.capacity + threads - 1) / threads;
  const auto packed = lethe::gpu::detail::packed(seen);
  return launch("observe_kernel", stream, {tiles, layer.batch.rows},
                [=](const auto& block, std::uint32_t tile, std::uint32_t row, std::uint32_t) {
                  observe_block(block, layer, packed, tile, row);
                });
}

template Status observe(const lethe::gpu::ObservedLayer&,
                        const lethe::gpu::BatchObservation<lethe::Probabilities<float>>&,
                        cudaStream_t);
template Status observe(const lethe::gpu::ObservedLayer&,
                        const lethe::gpu::BatchObservation<lethe::Probabilities<lethe::BFloat16>>&,
                        cudaStream_t);
template Status observe(const lethe::gpu::ObservedLayer&,
                        const lethe::gpu::BatchObservation<lethe::Logits<float>>&, cudaStream_t);
template Status observe(const lethe::gpu::ObservedLayer&,
                        const lethe::gpu::BatchObservation<lethe::Logits<lethe::BFloat16>>&,
                        cudaStream_t);

}  // namespace launches
