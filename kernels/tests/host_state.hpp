/// A state in the host's memory, for blocks that the host runs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "lethe/gpu/state.hpp"

namespace gpu_test {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Free>;

inline Memory poisoned_memory(std::size_t bytes) {
  Memory memory(std::aligned_alloc(256, bytes));
  std::fill_n(static_cast<unsigned char*>(memory.get()), bytes, static_cast<unsigned char>(0xAB));
  return memory;
}

/// A state and a round's buffers, poisoned.
class HostState {
 public:
  explicit HostState(const lethe::gpu::StateShape& shape) {
    std::size_t bytes = 0;
    static_cast<void>(lethe::gpu::place_state(shape, nullptr, bytes, state));
    state_memory_ = poisoned_memory(bytes);
    static_cast<void>(lethe::gpu::place_state(shape, state_memory_.get(), bytes, state));
    static_cast<void>(lethe::gpu::place_plans(shape, nullptr, bytes, plans));
    plan_memory_ = poisoned_memory(bytes);
    static_cast<void>(lethe::gpu::place_plans(shape, plan_memory_.get(), bytes, plans));
  }

  [[nodiscard]] std::span<float> scores(std::uint32_t layer, std::uint32_t slot,
                                        std::uint32_t group = 0) const {
    const std::size_t number = state.number(layer, slot);
    return {state.score_row(number, group), state.lengths[number]};
  }
  [[nodiscard]] std::span<lethe::Position> positions(std::uint32_t layer, std::uint32_t slot,
                                                     std::uint32_t set = 0) const {
    const std::size_t number = state.number(layer, slot);
    return {state.position_row(number, set), state.lengths[number]};
  }

  /// Where the state lies.
  [[nodiscard]] void* memory() const { return state_memory_.get(); }

  lethe::gpu::State state{};
  lethe::gpu::PlanBuffers plans{};

 private:
  Memory state_memory_;
  Memory plan_memory_;
};

}  // namespace gpu_test
