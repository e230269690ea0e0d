#include <memory>
#include <type_traits>

#include "grid.hpp"
#include "launches.hpp"
#include "lethe/gpu/flush_block.cuh"
#include "lethe/gpu/flush_tiles.cuh"
#include "lethe/gpu/ring_block.cuh"

namespace launches {
namespace {

using lethe::gpu::Flush;
using lethe::gpu::Status;
using simulated_device::Grid;
using simulated_device::launch_grid;

template <class Element>
Grid grid_of(const Flush<Element>& flush, std::uint32_t tokens) {
  const bool all = flush.layer == lethe::gpu::every_layer;
  return {(flush.state.shape.capacity - 1) / tokens + 1, flush.batch.rows,
          all ? flush.ring.layers : 1};
}

template <class Rows, unsigned Chunks, class Element>
Status launch_tiles(const Flush<Element>& flush, cudaStream_t stream) {
  constexpr unsigned threads = 64;
  const auto shared = std::make_shared<lethe::gpu::detail::TileShared<threads>>();
  return launch_grid<threads>(
      "flush_tiles_kernel", stream, grid_of(flush, threads),
      [=](const auto& block, std::uint32_t tile, std::uint32_t row, std::uint32_t layer) {
        lethe::gpu::flush_tiles_block<Rows, lethe::gpu::ScalarProduct<Element>, Chunks>(
            block, *shared, flush, tile, row, layer);
      });
}

template <class Rows, class Element>
Status launch_masses(const Flush<Element>& flush, cudaStream_t stream) {
  if constexpr (sizeof(Element) == 2) {
    const std::uint32_t channels = flush.ring.shape.head_dimension;
    if (lethe::gpu::scores_in_tiles(flush)) {
      if (channels > 128) return launch_tiles<Rows, 8>(flush, stream);
      return channels > 64 ? launch_tiles<Rows, 4>(flush, stream)
                           : launch_tiles<Rows, 2>(flush, stream);
    }
  }
  const auto shared = std::make_shared<lethe::gpu::detail::ExactShared>();
  return launch_grid<128>(
      "flush_exact_kernel", stream, grid_of(flush, lethe::gpu::detail::exact_tokens),
      [=](const auto& block, std::uint32_t tile, std::uint32_t row, std::uint32_t layer) {
        lethe::gpu::flush_exact_block<Rows>(block, *shared, flush, tile, row, layer);
      });
}

}  // namespace

template <class Element>
Status start_rings(const lethe::gpu::QueryRing<Element>& ring, const lethe::gpu::Batch& batch,
                   cudaStream_t stream) {
  const Status status = check(ring, batch);
  if (!status.ok() || batch.rows == 0) return status;
  return launch_grid<32>("start_rings_kernel", stream, {batch.rows},
                         [=](const auto& block, std::uint32_t row, std::uint32_t, std::uint32_t) {
                           start_rings_block(block, ring, batch, row);
                         });
}

template <class Element>
Status push_queries(const lethe::gpu::ObservedLayer& layer,
                    const lethe::gpu::QueryRing<Element>& ring,
                    const lethe::gpu::BatchObservation<lethe::Queries<Element>>& seen,
                    cudaStream_t stream) {
  const Status status = check(layer, ring, seen);
  if (!status.ok() || layer.batch.rows == 0) return status;
  const auto packed = lethe::gpu::detail::packed(seen);
  return launch_grid<32>("push_kernel", stream, {layer.batch.rows},
                         [=](const auto& block, std::uint32_t row, std::uint32_t, std::uint32_t) {
                           push_block(block, layer, ring, packed, row);
                         });
}

template <class Element>
Status flush_queries(const Flush<Element>& flush, cudaStream_t stream) {
  Status status = check(flush);
  if (!status.ok() || flush.batch.rows == 0) return status;
  status = flush.pages.base != nullptr ? launch_masses<lethe::gpu::PageRows>(flush, stream)
                                       : launch_masses<lethe::gpu::StripRows>(flush, stream);
  if (!status.ok()) return status;
  return launch_grid<32>("empty_rings_kernel", stream, {flush.batch.rows},
                         [=](const auto& block, std::uint32_t row, std::uint32_t, std::uint32_t) {
                           empty_rings_block(block, flush, row);
                         });
}

template <class Element>
Status plan_round(const lethe::gpu::Round& round, const Flush<Element>& flush,
                  cudaStream_t stream) {
  Status status = check(round, flush);
  if (status.ok()) status = flush_queries(before(round, flush), stream);
  return status.ok() ? plan_round(round, stream) : status;
}

#define LETHE_INSTANTIATE(Element)                                                             \
  template Status start_rings(const lethe::gpu::QueryRing<Element>&, const lethe::gpu::Batch&, \
                              cudaStream_t);                                                   \
  template Status push_queries(                                                                \
      const lethe::gpu::ObservedLayer&, const lethe::gpu::QueryRing<Element>&,                 \
      const lethe::gpu::BatchObservation<lethe::Queries<Element>>&, cudaStream_t);             \
  template Status flush_queries(const Flush<Element>&, cudaStream_t);                          \
  template Status plan_round(const lethe::gpu::Round&, const Flush<Element>&, cudaStream_t)
LETHE_INSTANTIATE(float);
LETHE_INSTANTIATE(lethe::Half);
LETHE_INSTANTIATE(lethe::BFloat16);
#undef LETHE_INSTANTIATE

}  // namespace launches
