#include "launches.hpp"
#include "lethe/gpu/deferred.cuh"

namespace launches {

template <class Element>
lethe::gpu::Status start_rings(const lethe::gpu::QueryRing<Element>& ring,
                               const lethe::gpu::Batch& batch, cudaStream_t stream) {
  return lethe::gpu::start_rings(ring, batch, stream);
}

template <class Element>
lethe::gpu::Status push_queries(const lethe::gpu::ObservedLayer& layer,
                                const lethe::gpu::QueryRing<Element>& ring,
                                const lethe::gpu::BatchObservation<lethe::Queries<Element>>& seen,
                                cudaStream_t stream) {
  return lethe::gpu::push_queries(layer, ring, seen, stream);
}

template <class Element>
lethe::gpu::Status flush_queries(const lethe::gpu::Flush<Element>& flush, cudaStream_t stream) {
  return lethe::gpu::flush_queries(flush, stream);
}

template <class Element>
lethe::gpu::Status plan_round(const lethe::gpu::Round& round,
                              const lethe::gpu::Flush<Element>& flush, cudaStream_t stream) {
  return lethe::gpu::plan_round(round, flush, stream);
}

#define LETHE_INSTANTIATE(Element)                                                            \
  template lethe::gpu::Status start_rings(const lethe::gpu::QueryRing<Element>&,              \
                                          const lethe::gpu::Batch&, cudaStream_t);            \
  template lethe::gpu::Status push_queries(                                                   \
      const lethe::gpu::ObservedLayer&, const lethe::gpu::QueryRing<Element>&,                \
      const lethe::gpu::BatchObservation<lethe::Queries<Element>>&, cudaStream_t);            \
  template lethe::gpu::Status flush_queries(const lethe::gpu::Flush<Element>&, cudaStream_t); \
  template lethe::gpu::Status plan_round(const lethe::gpu::Round&,                            \
                                         const lethe::gpu::Flush<Element>&, cudaStream_t)
LETHE_INSTANTIATE(float);
LETHE_INSTANTIATE(lethe::Half);
LETHE_INSTANTIATE(lethe::BFloat16);
#undef LETHE_INSTANTIATE

}  // namespace launches
