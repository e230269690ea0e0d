#include "launches.hpp"

#include <algorithm>
#include <memory>

#include "grid.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/observe_checks.hpp"
#include "lethe/gpu/round_sets.cuh"

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

[[nodiscard]] Status sum_layers(const lethe::gpu::Round& round, cudaStream_t stream) {
  const auto shared = std::make_shared<lethe::gpu::detail::SummaryShared>();
  const Status status =
      launch("factor_kernel", stream, {round.batch.rows, round.state.shape.layers},
             [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t) {
               factor_block(block, *shared, round, layer, row);
             });
  if (!status.ok()) return status;
  const std::uint32_t tiles = (round.state.shape.capacity + threads - 1) / threads;
  return launch("share_kernel", stream, {tiles, round.batch.rows},
                [=](const auto& block, std::uint32_t tile, std::uint32_t row, std::uint32_t) {
                  share_block(block, round, tile, row);
                });
}

[[nodiscard]] Grid grid_of_sets(const lethe::gpu::Round& round) {
  const lethe::gpu::StateShape& shape = round.state.shape;
  const bool whole = shape.scope == lethe::Scope::sequence;
  return {round.batch.rows, whole ? 1 : shape.layers, shape.sets()};
}

}  // namespace

Status plan_round(const lethe::gpu::Round& round, cudaStream_t stream) {
  const lethe::gpu::StateShape& shape = round.state.shape;
  const Status status = check(round);
  if (!status.ok() || round.batch.rows == 0) return status;
  if (shape.scope == lethe::Scope::sequence || shape.sets() != 1) {
    const Status counted = plan_counts(round, stream);
    return counted.ok() ? plan_kept(round, stream) : counted;
  }
  const auto shared = std::make_shared<lethe::gpu::detail::PlanShared>();
  return launch("plan_kernel", stream, {round.batch.rows, shape.layers},
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t) {
                  plan_block(block, *shared, round, layer, row);
                });
}

Status plan_counts(const lethe::gpu::Round& round, cudaStream_t stream) {
  Status status = check_half("plan_counts", round);
  if (!status.ok() || round.batch.rows == 0) return status;
  const bool whole = round.state.shape.scope == lethe::Scope::sequence;
  if (whole) status = sum_layers(round, stream);
  if (!status.ok()) return status;
  const auto shared = std::make_shared<lethe::gpu::detail::PlanShared>();
  return launch("count_kernel", stream, grid_of_sets(round),
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t set) {
                  count_block(block, *shared, round, layer, row, set);
                });
}

Status plan_kept(const lethe::gpu::Round& round, cudaStream_t stream) {
  const Status status = check_half("plan_kept", round);
  if (!status.ok() || round.batch.rows == 0) return status;
  const auto shared = std::make_shared<lethe::gpu::detail::PlanShared>();
  return launch("keep_kernel", stream, grid_of_sets(round),
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t set) {
                  keep_block(block, *shared, round, layer, row, set);
                });
}

Status gather_scores(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
                     float* gathered, cudaStream_t stream) {
  const Status status = lethe::gpu::check(state, batch, gathered);
  if (!status.ok() || batch.rows == 0) return status;
  return launch("gather_kernel", stream, {batch.rows, state.shape.layers, state.shape.sets()},
                [=](const auto& block, std::uint32_t row, std::uint32_t layer, std::uint32_t set) {
                  gather_block(block, state, batch, gathered, layer, row, set);
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
  return launch("observe_kernel", stream, {tiles, layer.batch.rows, layer.state.shape.groups},
                [=](const auto& block, std::uint32_t tile, std::uint32_t row, std::uint32_t group) {
                  observe_block(block, layer, packed, tile, row, group);
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
