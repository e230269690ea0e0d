/// The calls of the CUDA runtime that transfers need, as a concept: the runtime is one model, a
/// test's simulation another.
#pragma once

#include <concepts>
#include <cstddef>

#include "lethe/gpu/status.hpp"

namespace lethe::gpu {

/// Copies of one size at even steps on both sides: what cudaMemcpy2DAsync does in one call.
struct PitchedCopy {
  const std::byte* source;
  std::byte* target;
  std::size_t row_bytes;
  std::size_t rows;
  std::size_t source_pitch;
  std::size_t target_pitch;

  bool operator==(const PitchedCopy&) const = default;
};

/// Calls of the CUDA runtime. Each returns 0 or a cudaError_t's value and names what it stands for;
/// a call that fails leaves no error behind for the engine's next cudaGetLastError.
///
/// query_event, query_stream: never block; not_ready(code) tells whether the code they gave means
/// that work is still under way, or that this could not be asked now.
/// allocate_pinned: host memory that the device reaches, zeroed or not.
template <class Model>
concept TransferCalls = requires(Model& calls, typename Model::Stream stream,
                                 typename Model::Event event, const PitchedCopy& pitched,
                                 std::byte* target, const std::byte* source, std::byte*& memory,
                                 std::size_t bytes, int code) {
  { calls.create_stream(stream) } -> std::same_as<int>;
  { calls.destroy_stream(stream) } -> std::same_as<int>;
  { calls.query_stream(stream) } -> std::same_as<int>;
  { calls.wait_for_stream(stream) } -> std::same_as<int>;
  { calls.create_event(event) } -> std::same_as<int>;
  { calls.destroy_event(event) } -> std::same_as<int>;
  { calls.record_event(event, stream) } -> std::same_as<int>;
  { calls.query_event(event) } -> std::same_as<int>;
  { calls.wait_for_event(event) } -> std::same_as<int>;
  { calls.let_stream_wait(stream, event) } -> std::same_as<int>;
  { calls.copy(target, source, bytes, stream) } -> std::same_as<int>;
  { calls.copy_pitched(pitched, stream) } -> std::same_as<int>;
  { calls.allocate_pinned(memory, bytes) } -> std::same_as<int>;
  { calls.free_pinned(memory) } -> std::same_as<int>;
  { calls.not_ready(code) } -> std::same_as<bool>;
};

/// Calls of a runtime that takes many copies at once, in any order among them.
///
/// copy_batch(targets, sources, sizes, count, stream): the arrays may be reused at once.
/// not_offered(code): whether the code it gave means that this driver cannot, and nothing was done.
template <class Model>
concept BatchCopyCalls = TransferCalls<Model> &&
    requires(Model& calls, std::byte* const* targets, const std::byte* const* sources,
             const std::size_t* sizes, typename Model::Stream stream, int code) {
  { calls.copy_batch(targets, sources, sizes, std::size_t{}, stream) } -> std::same_as<int>;
  { calls.not_offered(code) } -> std::same_as<bool>;
};

}  // namespace lethe::gpu
