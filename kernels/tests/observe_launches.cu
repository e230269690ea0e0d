#include "launches.hpp"
#include "lethe/gpu/observe.cuh"

namespace launches {

lethe::gpu::Status start_sequences(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
                                   std::uint32_t threshold, cudaStream_t stream) {
  return lethe::gpu::start_sequences(state, batch, threshold, stream);
}

lethe::gpu::Status append(const lethe::gpu::State& state, const lethe::gpu::Batch& batch,
                          std::uint32_t tokens, cudaStream_t stream) {
  return lethe::gpu::append(state, batch, tokens, stream);
}

template <class Observation>
lethe::gpu::Status observe(const lethe::gpu::ObservedLayer& layer,
                           const lethe::gpu::BatchObservation<Observation>& seen,
                           cudaStream_t stream) {
  return lethe::gpu::observe(layer, seen, stream);
}

#define LETHE_INSTANTIATE(Observation)                                                         \
  template lethe::gpu::Status observe(const lethe::gpu::ObservedLayer&,                        \
                                      const lethe::gpu::BatchObservation<lethe::Observation>&, \
                                      cudaStream_t)
LETHE_INSTANTIATE(Probabilities<float>);
LETHE_INSTANTIATE(Probabilities<lethe::BFloat16>);
LETHE_INSTANTIATE(Logits<float>);
LETHE_INSTANTIATE(Logits<lethe::BFloat16>);
#undef LETHE_INSTANTIATE

}  // namespace launches
