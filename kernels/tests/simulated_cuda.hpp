/// A device's streams and events without a device: work is done late, in any order that streams and
/// events allow, and any call may fail.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "lethe/gpu/transfer_calls.hpp"
#include "lethe/layerkv/copier.hpp"
#include "naive/random.hpp"

namespace naive {

/// What is enqueued on streams, and what becomes of it.
class SimulatedCuda {
 public:
  // cudaError_t's values.
  static constexpr int invalid_value = 1;
  static constexpr int out_of_memory = 2;
  static constexpr int newer_driver = 36;
  static constexpr int not_ready = 600;
  static constexpr int launch_failure = 719;
  static constexpr int capture_unsupported = 900;

  explicit SimulatedCuda(std::uint64_t seed = 0) : random_(seed) {}

  // ---- how it behaves
  /// Pieces of work done at most whenever an event or a stream is asked after.
  std::size_t most_work = 4;
  /// Of enqueueing calls; nothing is enqueued by one that fails.
  std::size_t fail_percent = 0;
  /// Of questions that are refused although the work goes on.
  std::size_t refuse_percent = 0;
  bool offers_batches = true;
  /// Told of each enqueueing call; true: it fails.
  std::function<bool()> on_enqueue;
  /// Calls that create or allocate before one fails.
  std::size_t creations = ~std::size_t{0};
  std::function<void(const lethe::layerkv::ByteCopy&)> on_copy;

  // ---- what it has seen
  std::size_t copy_calls = 0;
  std::size_t pitched_calls = 0;
  std::size_t batch_calls = 0;
  std::size_t records = 0;
  std::size_t streams_alive = 0;
  std::size_t events_alive = 0;
  std::size_t memory_alive = 0;

  [[nodiscard]] bool idle() const {
    for (const auto& stream : streams_) {
      if (!stream.empty()) return false;
    }
    return true;
  }

  /// Pieces of work that a stream has still to do.
  [[nodiscard]] std::size_t pending(std::size_t stream) const { return streams_.at(stream).size(); }

  int create_stream(std::size_t& stream) {
    if (!may_create()) return out_of_memory;
    stream = streams_.size();
    streams_.emplace_back();
    ++streams_alive;
    return 0;
  }
  int create_event(std::size_t& event) {
    if (!may_create()) return out_of_memory;
    event = events_.size();
    events_.push_back({0, 0});
    ++events_alive;
    return 0;
  }
  [[nodiscard]] bool may_create() {
    if (creations == 0) return false;
    --creations;
    return true;
  }

  /// Work of a stream, done in the order of the calls.
  int enqueue(std::size_t stream, std::function<bool()> work) {
    if (random_.chance(fail_percent) || (on_enqueue && on_enqueue())) return launch_failure;
    streams_.at(stream).push_back(std::move(work));
    return 0;
  }

  int enqueue_copies(std::size_t stream, const std::vector<lethe::layerkv::ByteCopy>& copies) {
    for (const lethe::layerkv::ByteCopy& copy : copies) {
      if (copy.bytes == 0) return invalid_value;
    }
    return enqueue(stream, [this, copies] {
      for (const lethe::layerkv::ByteCopy& copy : copies) {
        if (on_copy) on_copy(copy);
        std::memcpy(copy.target, copy.source, copy.bytes);
      }
      return true;
    });
  }

  int record(std::size_t event, std::size_t stream) {
    ++records;
    const std::size_t record = events_.at(event).recorded + 1;
    const int code = enqueue(stream, [this, event, record] {
      events_[event].passed = record;
      return true;
    });
    if (code == 0) events_[event].recorded = record;
    return code;
  }

  /// Waits for the event as it was recorded last before the call.
  int let_wait(std::size_t stream, std::size_t event) {
    const std::size_t record = events_.at(event).recorded;
    return enqueue(stream, [this, event, record] { return events_[event].passed >= record; });
  }

  int query_event(std::size_t event) {
    work();
    if (random_.chance(refuse_percent)) return capture_unsupported;
    return events_.at(event).passed == events_[event].recorded ? 0 : not_ready;
  }
  int query_stream(std::size_t stream) {
    work();
    if (random_.chance(refuse_percent)) return capture_unsupported;
    return streams_.at(stream).empty() ? 0 : not_ready;
  }
  int wait_event(std::size_t event) {
    if (random_.chance(refuse_percent)) return capture_unsupported;
    work_until([&] { return events_.at(event).passed == events_[event].recorded; });
    return 0;
  }
  int wait_stream(std::size_t stream) {
    if (random_.chance(refuse_percent)) return capture_unsupported;
    work_until([&] { return streams_.at(stream).empty(); });
    return 0;
  }

  /// Some pieces of work of streams at random.
  void work() {
    for (std::size_t left = random_.below(most_work + 1); left > 0; --left) step();
  }

 private:
  struct Event {
    std::size_t recorded;
    std::size_t passed;
  };

  void step() {
    auto& stream = streams_[random_.below(streams_.size())];
    if (stream.empty() || !stream.front()()) return;
    stream.pop_front();
  }

  /// What waits for ever ends the test.
  template <class Done>
  void work_until(Done done) {
    for (std::size_t steps = 0; !done(); ++steps) {
      if (steps == 1'000'000) std::abort();
      step();
    }
  }

  Random random_;
  std::deque<std::deque<std::function<bool()>>> streams_;
  std::vector<Event> events_;
};

/// The simulation as a model of TransferCalls.
struct SimulatedCalls {
  using Stream = std::size_t;
  using Event = std::size_t;

  SimulatedCuda* cuda;

  int create_stream(Stream& stream) { return cuda->create_stream(stream); }
  /// What is enqueued goes on.
  int destroy_stream(Stream) {
    --cuda->streams_alive;
    return 0;
  }
  int query_stream(Stream stream) { return cuda->query_stream(stream); }
  int wait_for_stream(Stream stream) { return cuda->wait_stream(stream); }
  int create_event(Event& event) { return cuda->create_event(event); }
  int destroy_event(Event) {
    --cuda->events_alive;
    return 0;
  }
  int record_event(Event event, Stream stream) { return cuda->record(event, stream); }
  int query_event(Event event) { return cuda->query_event(event); }
  int wait_for_event(Event event) { return cuda->wait_event(event); }
  int let_stream_wait(Stream stream, Event event) { return cuda->let_wait(stream, event); }

  int copy(std::byte* target, const std::byte* source, std::size_t bytes, Stream stream) {
    ++cuda->copy_calls;
    return cuda->enqueue_copies(stream, {{source, target, bytes}});
  }
  int copy_pitched(const lethe::gpu::PitchedCopy& pitched, Stream stream) {
    ++cuda->pitched_calls;
    std::vector<lethe::layerkv::ByteCopy> rows;
    for (std::size_t row = 0; row < pitched.rows; ++row) {
      rows.push_back({pitched.source + row * pitched.source_pitch,
                      pitched.target + row * pitched.target_pitch, pitched.row_bytes});
    }
    return cuda->enqueue_copies(stream, rows);
  }
  /// The last copy first: a batch has no order.
  int copy_batch(std::byte* const* targets, const std::byte* const* sources,
                 const std::size_t* sizes, std::size_t count, Stream stream) {
    ++cuda->batch_calls;
    if (!cuda->offers_batches) return SimulatedCuda::newer_driver;
    std::vector<lethe::layerkv::ByteCopy> copies;
    while (count-- > 0) copies.push_back({sources[count], targets[count], sizes[count]});
    return cuda->enqueue_copies(stream, copies);
  }

  int allocate_pinned(std::byte*& memory, std::size_t bytes) {
    if (!cuda->may_create()) {
      memory = reinterpret_cast<std::byte*>(cuda);
      return SimulatedCuda::out_of_memory;
    }
    memory = new std::byte[bytes];
    ++cuda->memory_alive;
    return 0;
  }
  int free_pinned(std::byte* memory) {
    delete[] memory;
    --cuda->memory_alive;
    return 0;
  }

  [[nodiscard]] bool not_ready(int code) const {
    return code == SimulatedCuda::not_ready || code == SimulatedCuda::capture_unsupported;
  }
  [[nodiscard]] bool not_offered(int code) const { return code == SimulatedCuda::newer_driver; }
};
static_assert(lethe::gpu::BatchCopyCalls<SimulatedCalls>);

}  // namespace naive
