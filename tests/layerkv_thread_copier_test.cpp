#include "lethe/layerkv/thread_copier.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <thread>
#include <vector>

#include "allocation_count.hpp"
#include "catch.hpp"
#include "lethe/layerkv/coalescer.hpp"
#include "lethe/layerkv/transfer.hpp"
#include "naive/random.hpp"

namespace {

using lethe::layerkv::BlockArray;
using lethe::layerkv::ByteCopy;
using lethe::layerkv::CopyState;
using lethe::layerkv::CopyTicket;
using lethe::layerkv::Route;
using lethe::layerkv::ThreadCopier;
using lethe::layerkv::ThreadCopierConfig;
using naive::Random;
using Bytes = std::vector<std::byte>;

struct Batch {
  CopyTicket ticket;
  std::vector<ByteCopy> copies;
};

Bytes noise(Random& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.below(256));
  return bytes;
}

void check_arrived(const Batch& batch) {
  for (const ByteCopy& copy : batch.copies) {
    REQUIRE(std::equal(copy.source, copy.source + copy.bytes, copy.target));
  }
}

/// Consecutive stretches of both memories, 0 to 200 bytes each.
std::vector<ByteCopy> random_copies(Random& random, const Bytes& source, Bytes& target,
                                    std::size_t& place) {
  std::vector<ByteCopy> copies;
  for (std::size_t count = random.below(9); count > 0; --count) {
    const std::size_t bytes = random.below(5) == 0 ? 0 : random.below(200);
    if (place + bytes > target.size()) break;
    copies.push_back({source.data() + place, target.data() + place, bytes});
    place += bytes;
  }
  return copies;
}

}  // namespace

TEST_CASE("random batches arrive whole, asked after in any order") {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    const Bytes source = noise(random, 60000);
    Bytes target(source.size());
    ThreadCopier copier({.threads = 1 + seed % 3,
                         .batches = 4,
                         .batch_copies = 8,
                         .piece_bytes = seed % 2 == 0 ? 7u : 300u});
    std::vector<Batch> batches;
    std::size_t place = 0;
    while (place + 200 < target.size() || !batches.empty()) {
      if (batches.size() < 4 && place + 200 < target.size()) {
        Batch batch{0, random_copies(random, source, target, place)};
        const auto ticket = copier.submit(batch.copies, Route::to_host);
        REQUIRE(ticket);
        batch.ticket = *ticket;
        batches.push_back(batch);
      }
      if (batches.size() == 4) CHECK_FALSE(copier.submit({}, Route::to_host));
      if (batches.empty()) continue;
      const std::size_t which = random.below(batches.size());
      const bool blocks = random.chance(20);
      const CopyTicket ticket = batches[which].ticket;
      const CopyState state = blocks ? copier.wait(ticket) : copier.poll(ticket);
      if (state == CopyState::pending) {
        REQUIRE_FALSE(blocks);
        std::this_thread::yield();
        continue;
      }
      REQUIRE(state == CopyState::done);
      check_arrived(batches[which]);
      batches.erase(batches.begin() + static_cast<std::ptrdiff_t>(which));
    }
    REQUIRE(std::equal(source.begin(), source.begin() + static_cast<std::ptrdiff_t>(place),
                       target.begin()));
  }
}

TEST_CASE("threads copy while the caller only looks") {
  const Bytes source(1 << 20, std::byte{5});
  Bytes target(source.size());
  ThreadCopier copier({.piece_bytes = 1 << 14});
  const ByteCopy copy[] = {{source.data(), target.data(), source.size()}};
  const auto ticket = copier.submit(copy, Route::to_device);
  REQUIRE(ticket);
  while (copier.poll(*ticket) == CopyState::pending) std::this_thread::yield();
  CHECK(target == source);
}

TEST_CASE("a ticket is never given twice") {
  ThreadCopier copier({.batches = 1});
  const auto first = copier.submit({}, Route::to_host);
  REQUIRE(first);
  CHECK(copier.poll(*first) == CopyState::done);
  CHECK(copier.submit({}, Route::to_host) != first);
}

TEST_CASE("it ends with work queued, which it drops, and touches nothing afterwards") {
  const Bytes source(1 << 18, std::byte{5});
  std::size_t dropped = 0;
  for (int trial = 0; trial < 20; ++trial) {
    Bytes target(source.size());
    {
      ThreadCopier copier({.batches = 64, .piece_bytes = 16});
      for (std::size_t i = 0; i < 64; ++i) {
        const ByteCopy copy[] = {{source.data() + i * 4096, target.data() + i * 4096, 4096}};
        REQUIRE(copier.submit(copy, Route::to_host));
      }
    }
    const Bytes seen = target;
    std::this_thread::yield();
    CHECK(target == seen);
    dropped += target == source ? 0u : 1u;
  }
  CHECK(dropped > 0);
}

TEST_CASE("copies that cannot be had are refused by name") {
  const auto refuses = [](auto change, const char* field) {
    ThreadCopierConfig config;
    change(config);
    CHECK_THROWS_AS(ThreadCopier(config), std::invalid_argument);
    CHECK_THROWS_WITH(ThreadCopier(config), Catch::Contains(field));
  };
  refuses([](auto& c) { c.threads = 0; }, "threads = 0");
  refuses([](auto& c) { c.batches = 0; }, "batches = 0");
  refuses([](auto& c) { c.batch_copies = 0; }, "batch_copies = 0");
  refuses([](auto& c) { c.piece_bytes = 0; }, "piece_bytes = 0");
}

TEST_CASE("once constructed, a queue, a coalescer and a copier allocate nothing") {
  constexpr std::size_t blocks = 64;
  constexpr std::size_t block_bytes = 512;
  struct Move {
    std::uint32_t from;
    std::uint32_t to;
  };
  const Bytes source(blocks * block_bytes, std::byte{3});
  Bytes target(source.size()), staging(2 * source.size());
  ThreadCopier copier({.batches = 4});
  lethe::layerkv::Coalescer coalescer({.blocks = blocks, .arrays = 1});
  lethe::layerkv::TransferQueue queue(
      {.transfers = 4, .copies = blocks, .slice_bytes = 4096}, copier,
      {std::span(staging).first(source.size()), std::span(staging).last(source.size())});
  std::vector<Move> moves;
  for (std::uint32_t i = 0; i < blocks; ++i) moves.push_back({i ^ 5u, i});
  const BlockArray array[] = {
      {.source = source.data(), .target = target.data(), .block_bytes = block_bytes}};
  const std::size_t before = allocations;
  std::size_t ended = 0;
  const auto go_on = [&] {
    queue.poll(std::chrono::steady_clock::now().time_since_epoch());
    queue.wait();
    while (const auto finished = queue.take_finished()) {
      ++ended;
      if (finished->buffer != lethe::layerkv::no_buffer) queue.release(finished->buffer);
    }
  };
  std::size_t round = 0;
  while (ended < 60) {
    const auto id = queue.start({.copies = coalescer.copies(std::span<const Move>(moves), array),
                                 .staging = static_cast<lethe::layerkv::Staging>(round % 3)});
    if (id && round % 7 == 6) queue.cancel(*id);
    // Two transfers at once would write the same bytes from two threads.
    while (queue.live() != 0) go_on();
    ++round;
  }
  const std::size_t after = allocations;
  CHECK(after == before);
  CHECK(target == source);
}
