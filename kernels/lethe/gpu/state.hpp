/// Device memory of the sequences that a batch is drawn from: its sizes and its layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/gpu/batch.hpp"
#include "lethe/gpu/status.hpp"
#include "lethe/gpu/window.hpp"
#include "lethe/numeric.hpp"
#include "lethe/pruner_config.hpp"

namespace lethe::gpu {

/// A layer's trigger (detail::LayerCadence of the host).
struct Cadence {
  /// The length from which the layer is examined.
  std::uint32_t threshold = 0;
  /// Tokens appended since it last was.
  std::uint32_t since_round = 0;
};

/// How many of what.
struct StateShape {
  std::uint32_t layers = 0;
  /// State slots: sequences at a time. A batch names the slot of each of its rows.
  std::uint32_t slots = 0;
  /// Most tokens of a layer (the bound).
  std::uint32_t capacity = 0;
  /// Queries whose mass is kept by itself, for scores of a window; 0: none. With a window, scores
  /// are written anew in each round.
  std::uint32_t window = 0;
  /// False for a policy that reads no attention: no score is kept, and none is to be observed.
  bool scores = true;
  /// Score rows of a layer: 1 sums all heads; of H heads, group g sums those from g x H / groups
  /// on, H / groups of them (PrunerConfig::groups).
  std::uint32_t groups = 1;
  /// What shares one kept set (PrunerConfig::scope). Scope::head: each group keeps its own tokens,
  /// equally many in a layer; so a group for each KV head of this rank.
  Scope scope = Scope::layer;

  /// Kept sets of a layer: one, or one for each group.
  [[nodiscard]] LETHE_HOST_DEVICE constexpr std::uint32_t sets() const {
    return scope == Scope::head ? groups : 1;
  }
};

/// Pointers into one piece of device memory. Number layer x slots + slot has a length, a cadence, a
/// window, `capacity` scores for each group, and as many positions for each kept set; a slot has
/// the rest.
struct State {
  StateShape shape{};
  /// Null where the shape says so.
  float* scores = nullptr;
  Position* positions = nullptr;
  std::uint32_t* lengths = nullptr;
  Cadence* cadences = nullptr;
  /// Positions below this stay, first tokens apart. The engine may write it at any time.
  Position* pinned = nullptr;
  /// The position that the next token gets.
  Position* next_positions = nullptr;
  /// Of each number `window` rows of `capacity` masses, and their queries (MassWindow). Null: none.
  float* window_rows = nullptr;
  std::uint32_t* window_queries = nullptr;

  [[nodiscard]] LETHE_HOST_DEVICE std::size_t number(std::uint32_t layer,
                                                     std::uint32_t slot) const {
    return std::size_t{layer} * shape.slots + slot;
  }
  [[nodiscard]] LETHE_HOST_DEVICE MassWindow window(std::size_t number) const {
    if (shape.window == 0) return {};
    const std::size_t first = number * shape.window;
    return {window_rows + first * shape.capacity, window_queries + first, shape.window,
            shape.capacity};
  }
  /// One score a token: the mass of a group's heads, summed.
  [[nodiscard]] LETHE_HOST_DEVICE float* score_row(std::size_t number, std::uint32_t group) const {
    return scores + (number * shape.groups + group) * shape.capacity;
  }
  [[nodiscard]] LETHE_HOST_DEVICE Position* position_row(std::size_t number,
                                                         std::uint32_t set) const {
    return positions + (number * shape.sets() + set) * shape.capacity;
  }
};

/// What a round writes, in the layout that a Compaction's DevicePlans reads: plan number x sets +
/// set, number as in State.
struct PlanBuffers {
  /// `capacity` slots each; the first counts[plan] hold where a layer was pruned.
  Slot* kept = nullptr;
  std::uint32_t* counts = nullptr;
  std::uint32_t* first_moves = nullptr;
  /// What each set asks of its layer (plan_counts).
  std::uint32_t* claims = nullptr;
  /// A layer's groups summed, `capacity` floats each; null where every set is one group.
  float* sums = nullptr;
  /// With Scope::sequence: what each layer's scores are multiplied by, and for each slot the sum
  /// over its layers, `capacity` floats.
  double* factors = nullptr;
  float* shares = nullptr;
};

namespace detail {

/// Sets of a layer, of all tensor-parallel ranks, that claims tell apart.
inline constexpr std::uint32_t most_sets = 1u << 29;

/// Hands out pieces of one piece of memory, each at a multiple of 256 bytes; a null piece counts.
/// Of nothing there is no piece.
class Carver {
 public:
  explicit Carver(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

  template <class T>
  void take(T*& piece, std::size_t count) {
    if (memory_ != nullptr && count != 0) piece = reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (count * sizeof(T) + 255) / 256 * 256;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

[[nodiscard]] constexpr const char* fault_of_shape(const StateShape& shape) {
  if (shape.layers == 0 || shape.layers > most_rows) return "layers: give 1 to 65535";
  if (shape.slots == 0 || shape.slots > 0x7FFFFFFFu) return "slots: give 1 to 2^31 - 1";
  if (shape.capacity == 0 || shape.capacity > 0x7FFFFFFFu) return "capacity: give 1 to 2^31 - 1";
  if (shape.groups == 0 || shape.groups > most_rows) return "groups: give 1 to 65535";
  if (shape.window != 0 && (shape.groups != 1 || shape.scope != Scope::layer)) {
    return "groups: a window has one score row a layer, so give 1, and Scope::layer";
  }
  if (!shape.scores && (shape.groups != 1 || shape.scope != Scope::layer)) {
    return "groups: without scores give 1, and Scope::layer";
  }
  if (shape.window != 0 && !shape.scores) return "scores: a window's are written there in a round";
  // As the host's, so that no size wraps; and a window is one array of so many heads to a
  // compaction.
  const std::size_t rows = (std::size_t{1} << 48) / shape.layers / shape.slots / shape.capacity;
  if (rows == 0) return "capacity: keep it x layers x slots within 2^48";
  if (shape.groups > rows) return "groups: keep them x layers x slots x capacity within 2^48";
  if (shape.window > rows) return "window: keep it x layers x slots x capacity within 2^48";
  return nullptr;
}

[[nodiscard]] constexpr const char* fault_of_state(const State& state) {
  const char* fault = fault_of_shape(state.shape);
  if (fault != nullptr) return fault;
  return state.positions == nullptr ? "state: give it memory by place_state" : nullptr;
}

/// Answers a size query, or says why `memory` will not do; then nothing is to be placed.
[[nodiscard]] inline Status size_query(const char* call, void* memory, std::size_t needed,
                                       std::size_t& bytes) {
  const std::size_t given = bytes;
  bytes = needed;
  if (memory == nullptr) return {};
  if (given < needed) return refused(call, "bytes: too few; ask for the size with a null pointer");
  const bool aligned = reinterpret_cast<std::uintptr_t>(memory) % 256 == 0;
  return aligned ? Status{} : refused(call, "memory: align it to 256 bytes, as cudaMalloc does");
}

[[nodiscard]] inline std::size_t carve(const StateShape& shape, void* memory, State& state) {
  const std::size_t rows = std::size_t{shape.layers} * shape.slots;
  Carver carver(memory);
  if (shape.scores) carver.take(state.scores, rows * shape.groups * shape.capacity);
  carver.take(state.positions, rows * shape.sets() * shape.capacity);
  carver.take(state.lengths, rows);
  carver.take(state.cadences, rows);
  carver.take(state.pinned, shape.slots);
  carver.take(state.next_positions, shape.slots);
  if (shape.window == 0) return carver.bytes();
  carver.take(state.window_rows, rows * shape.window * shape.capacity);
  carver.take(state.window_queries, rows * shape.window);
  return carver.bytes();
}

[[nodiscard]] inline std::size_t carve(const StateShape& shape, void* memory, PlanBuffers& plans) {
  const std::size_t rows = std::size_t{shape.layers} * shape.slots;
  const std::size_t sets = rows * shape.sets();
  const bool whole = shape.scope == Scope::sequence;
  Carver carver(memory);
  carver.take(plans.kept, sets * shape.capacity);
  carver.take(plans.counts, sets);
  carver.take(plans.first_moves, sets);
  carver.take(plans.claims, sets);
  carver.take(plans.sums, shape.groups == shape.sets() ? 0 : rows * shape.capacity);
  carver.take(plans.factors, whole ? rows : 0);
  carver.take(plans.shares, whole ? std::size_t{shape.slots} * shape.capacity : 0);
  return carver.bytes();
}

template <class Placed>
[[nodiscard]] inline Status place(const char* call, const StateShape& shape, void* memory,
                                  std::size_t& bytes, Placed& placed) {
  const char* fault = fault_of_shape(shape);
  if (fault != nullptr) return refused(call, fault);
  // Afresh: a pointer that this shape has no use for is null, whatever `placed` was before.
  Placed fresh{};
  const Status status = size_query(call, memory, carve(shape, nullptr, fresh), bytes);
  if (!status.ok() || memory == nullptr) return status;
  static_cast<void>(carve(shape, memory, fresh));
  placed = fresh;
  return status;
}

}  // namespace detail

/// With a null pointer writes the bytes of device memory that a state takes; else lays it out in
/// `memory`, of `bytes` bytes, which start_sequences must set before use. Nothing is allocated.
[[nodiscard]] inline Status place_state(const StateShape& shape, void* memory, std::size_t& bytes,
                                        State& state) {
  const Status status = detail::place("place_state", shape, memory, bytes, state);
  if (status.ok() && memory != nullptr) state.shape = shape;
  return status;
}

/// The same for what a round writes.
[[nodiscard]] inline Status place_plans(const StateShape& shape, void* memory, std::size_t& bytes,
                                        PlanBuffers& plans) {
  return detail::place("place_plans", shape, memory, bytes, plans);
}

}  // namespace lethe::gpu
