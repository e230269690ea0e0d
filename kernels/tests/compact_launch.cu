// The one part of the device test that nvcc compiles.
#include "compact_launch.hpp"
#include "lethe/gpu/compact.cuh"

lethe::gpu::Status launch_compact(const lethe::gpu::Compaction& compaction, cudaStream_t stream) {
  return lethe::gpu::compact(compaction, stream);
}
