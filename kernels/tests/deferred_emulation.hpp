/// The calls of deferred scoring on the host: a runner of gpu_test::DeferredDecode.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "deferred_cases.hpp"
#include "emulation.hpp"
#include "lethe/gpu/flush_block.cuh"
#include "lethe/gpu/flush_tiles.cuh"
#include "lethe/gpu/ring_block.cuh"

namespace gpu_test {

/// A ring in the host's memory, poisoned.
template <class Element>
class HostRing {
 public:
  HostRing(const lethe::gpu::StateShape& state, const lethe::gpu::RingShape& shape) {
    std::size_t bytes = 0;
    REQUIRE(lethe::gpu::place_ring(state, shape, nullptr, bytes, ring).ok());
    memory_ = poisoned_memory(bytes);
    REQUIRE(lethe::gpu::place_ring(state, shape, memory_.get(), bytes, ring).ok());
  }

  lethe::gpu::QueryRing<Element> ring{};

 private:
  Memory memory_;
};

/// Calls body(tile, row, layer) for every block of a flush's grid, the last tile first.
template <class Element, class Key, class Body>
void for_each_block(const lethe::gpu::Flush<Element, Key>& flush, std::uint32_t tokens,
                    Body&& body) {
  const std::uint32_t layers = flush.layer == lethe::gpu::every_layer ? flush.ring.layers : 1;
  for (std::uint32_t tile = (flush.state.shape.capacity - 1) / tokens + 1; tile-- > 0;) {
    for (std::uint32_t row = 0; row < flush.batch.rows; ++row) {
      for (std::uint32_t layer = 0; layer < layers; ++layer) body(tile, row, layer);
    }
  }
}

template <class Rows, unsigned Chunks, class Element>
void run_tiles(Emulation& emulation, const lethe::gpu::Flush<Element>& flush) {
  const auto shared = std::make_unique<lethe::gpu::detail::TileShared<64>>();
  for_each_block(flush, 64, [&](auto tile, auto row, auto layer) {
    lethe::gpu::flush_tiles_block<Rows, lethe::gpu::ScalarProduct<Element>, Chunks>(
        emulation.block<64>(), *shared, flush, tile, row, layer);
  });
}

template <class Rows, class Element, class Key>
void run_masses(Emulation& emulation, const lethe::gpu::Flush<Element, Key>& flush) {
  if constexpr (std::is_same_v<Element, Key> && sizeof(Element) == 2) {
    if (lethe::gpu::scores_in_tiles(flush)) {
      const std::uint32_t channels = flush.ring.shape.head_dimension;
      if (channels > 128) return run_tiles<Rows, 8>(emulation, flush);
      return channels > 64 ? run_tiles<Rows, 4>(emulation, flush)
                           : run_tiles<Rows, 2>(emulation, flush);
    }
  }
  const auto shared = std::make_unique<lethe::gpu::detail::ExactShared>();
  for_each_block(flush, lethe::gpu::detail::exact_tokens, [&](auto tile, auto row, auto layer) {
    lethe::gpu::flush_exact_block<Rows>(emulation.block<128>(), *shared, flush, tile, row, layer);
  });
}

/// What flush_queries launches, block after block.
template <class Element, class Key>
void run_flush(Emulation& emulation, const lethe::gpu::Flush<Element, Key>& flush) {
  REQUIRE(lethe::gpu::check(flush).ok());
  if (flush.pages.base != nullptr) {
    run_masses<lethe::gpu::PageRows>(emulation, flush);
  } else {
    run_masses<lethe::gpu::StripRows>(emulation, flush);
  }
  for (std::uint32_t row = 0; row < flush.batch.rows; ++row) {
    lethe::gpu::empty_rings_block(emulation.block(), flush, row);
  }
}

/// What push_queries launches.
template <class Element>
void run_push(Emulation& emulation, const lethe::gpu::ObservedLayer& layer,
              const lethe::gpu::QueryRing<Element>& ring,
              const lethe::gpu::BatchObservation<lethe::Queries<Element>>& seen) {
  REQUIRE(lethe::gpu::check(layer, ring, seen).ok());
  for (std::uint32_t row = 0; row < layer.batch.rows; ++row) {
    lethe::gpu::push_block(emulation.block(), layer, ring, lethe::gpu::detail::packed(seen), row);
  }
}

template <class Element>
class DeferredEmulation {
 public:
  using Rows = Emulation::Rows;

  DeferredEmulation(const DeferredCase& given, const KeyPlace& place, std::uint64_t seed)
      : emulation_(deferred_state, seed),
        rings_(deferred_state, given.ring),
        keys_(poisoned_memory((place.bytes() + 255) / 256 * 256)),
        numbers_(place.numbers),
        entries_(numbers_.begin() + static_cast<std::ptrdiff_t>(3 * place.entries())),
        rows_(place.rings()) {
    // No key: a row that is read without having been written shows.
    std::memset(keys_.get(), 0xFF, place.bytes());
    flush_ = {.state = emulation_.read().state, .ring = rings_.ring, .exact = given.exact};
    place.describe(static_cast<std::byte*>(keys_.get()), numbers_.data(), flush_);
  }

  void start(const Rows& batch, std::uint32_t threshold) {
    emulation_.start(batch, threshold);
    for (std::uint32_t row = 0; row < batch.size(); ++row) {
      lethe::gpu::start_rings_block(emulation_.block(), rings_.ring, Emulation::of(batch), row);
    }
  }

  void make_room(const Rows& batch, const lethe::gpu::PlanSettings& settings) {
    const lethe::gpu::Round round = emulation_.round_of(batch, settings);
    flush_.step_queries = static_cast<std::uint32_t>(settings.step_tokens);
    run_flush(emulation_, lethe::gpu::before(round, flush_));
    emulation_.plan(round);
    std::fill_n(entries_, rows_, KeyPlace::blocks);
    emulation_.compact(compaction_with_keys(round, flush_));
  }

  void append(const Rows& batch, std::uint32_t tokens) { emulation_.append(batch, tokens); }

  void put_key(std::size_t offset, const std::vector<Element>& row) {
    std::memcpy(static_cast<std::byte*>(keys_.get()) + offset, row.data(),
                row.size() * sizeof(Element));
  }

  void push(const Rows& batch, std::uint32_t layer,
            const std::vector<lethe::gpu::QueryWeight>& weights,
            const StepAttention<Element>& attention) {
    run_push(emulation_, {emulation_.read().state, Emulation::of(batch), layer, weights.data()},
             rings_.ring, attention.seen);
  }

  void flush(const Rows& batch) {
    auto flush = flush_;
    flush.batch = Emulation::of(batch);
    flush.step_queries = lethe::gpu::any_queries;
    run_flush(emulation_, flush);
  }

  [[nodiscard]] const HostState& read() const { return emulation_.read(); }

 private:
  Emulation emulation_;
  HostRing<Element> rings_;
  Memory keys_;
  std::vector<std::uint32_t> numbers_;
  std::vector<std::uint32_t>::iterator entries_;
  std::size_t rows_;
  lethe::gpu::Flush<Element> flush_;
};

}  // namespace gpu_test
