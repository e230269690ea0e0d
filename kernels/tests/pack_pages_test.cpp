// Block tables and paged rows packed by a thread block, beside PagedCache and a model that knows
// each row by its content.
#include "lethe/gpu/pack_pages.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "catch.hpp"
#include "lethe/cache/paged.hpp"
#include "lethe/gpu/pack.cuh"
#include "naive/random.hpp"
#include "survivors.hpp"

namespace {

using gpu_test::plan_of;
using gpu_test::survivors;
using lethe::EvictionPlan;
using lethe::Half;
using lethe::Slot;
using lethe::gpu::HostBlock;
using lethe::gpu::PackMoves;
using lethe::gpu::PageOutcome;
using lethe::gpu::PageRows;
using lethe::gpu::PageTask;
using lethe::gpu::refused_pages;
using naive::Random;
using Numbers = std::vector<std::uint32_t>;

constexpr std::uint32_t poison = 0xDEADBEEFu;

/// A sequence's table over a pool, some of whose blocks others have too.
struct Sequence {
  Sequence(Random& random, std::uint32_t block_tokens_, bool shares) : block_tokens(block_tokens_) {
    tokens = static_cast<std::uint32_t>(random.between(1, 40 * block_tokens));
    const std::uint32_t blocks = (tokens + block_tokens - 1) / block_tokens;
    const std::uint32_t spare = random.chance(30) ? 2 : 0;
    Numbers pool(blocks + spare + 20);
    for (std::uint32_t i = 0; i < pool.size(); ++i) pool[i] = i;
    for (std::size_t i = pool.size(); i > 1; --i) std::swap(pool[i - 1], pool[random.below(i)]);
    table.assign(pool.begin(), pool.begin() + blocks + spare);
    fresh.assign(pool.begin() + blocks + spare, pool.end());
    owners.assign(pool.size(), 1);
    const std::size_t prefix = random.below(blocks + 1);
    for (std::size_t entry = 0; shares && entry < blocks; ++entry) {
      const bool shared = entry < prefix || random.chance(10);
      owners[table[entry]] = shared ? 2 : 1;
    }
  }

  [[nodiscard]] bool shared(std::size_t entry) const { return owners[table[entry]] > 1; }

  std::uint32_t block_tokens;
  std::uint32_t tokens = 0;
  Numbers table, fresh, owners;
};

/// What a block made of a table.
struct Packed {
  Packed(Random& random, const Sequence& sequence, const EvictionPlan& plan,
         std::uint32_t fresh_count)
      : table(sequence.table.size(), poison), freed(sequence.table.size(), poison) {
    const PageTask task{.table = sequence.table.data(),
                        .entries = static_cast<std::uint32_t>(sequence.table.size()),
                        .block_tokens = sequence.block_tokens,
                        .count = static_cast<std::uint32_t>(plan.kept.size()),
                        .first_move = plan.first_move,
                        .owners = sequence.owners.data(),
                        .fresh = sequence.fresh.data(),
                        .fresh_count = fresh_count};
    const PageOutcome outcome{table.data(), freed.data(), &freed_count, &fresh_used, &begin};
    lethe::gpu::pack_pages(HostBlock<32>(random.next()), task, outcome);
  }

  Numbers table, freed;
  std::uint32_t freed_count = poison, fresh_used = poison, begin = poison;
};

/// Entries that the packing writes and that others have too.
Numbers replaced_entries(const Sequence& sequence, const EvictionPlan& plan) {
  Numbers entries;
  const auto count = static_cast<std::uint32_t>(plan.kept.size());
  for (std::uint32_t entry = 0; entry * sequence.block_tokens < count; ++entry) {
    const std::uint32_t end = std::min(count, (entry + 1) * sequence.block_tokens);
    if (end > plan.first_move && sequence.shared(entry)) entries.push_back(entry);
  }
  return entries;
}

void check_table(const Sequence& sequence, const EvictionPlan& plan, const Packed& packed) {
  const Numbers replaced = replaced_entries(sequence, plan);
  const std::size_t blocks = (plan.kept.size() + sequence.block_tokens - 1) / sequence.block_tokens;
  Numbers table = sequence.table;
  Numbers freed;
  for (std::size_t i = 0; i < replaced.size(); ++i) {
    freed.push_back(table[replaced[i]]);
    table[replaced[i]] = sequence.fresh[i];
  }
  freed.insert(freed.end(), table.begin() + static_cast<std::ptrdiff_t>(blocks), table.end());
  table.resize(blocks);
  REQUIRE(Numbers(packed.table.begin(),
                  packed.table.begin() + static_cast<std::ptrdiff_t>(blocks)) == table);
  REQUIRE(packed.fresh_used == replaced.size());
  REQUIRE(packed.freed_count == freed.size());
  REQUIRE(Numbers(packed.freed.begin(),
                  packed.freed.begin() + static_cast<std::ptrdiff_t>(freed.size())) == freed);
}

/// A pool of rows of so many bytes for one array, two heads, with a gap behind each block.
struct Pool {
  Pool(Random& random, const Sequence& sequence, std::uint32_t row_bytes_, bool heads_first)
      : row_bytes(row_bytes_) {
    token_stride = heads_first ? row_bytes : 2 * row_bytes;
    head_stride = heads_first ? row_bytes * sequence.block_tokens : row_bytes;
    block_stride = std::size_t{2} * row_bytes * sequence.block_tokens + 16;
    bytes.resize(block_stride * sequence.owners.size());
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 32);
  }
  [[nodiscard]] PageRows rows(std::size_t head, const Sequence& sequence, const Numbers& targets) {
    return {.base = bytes.data() + head * head_stride,
            .block_stride = block_stride,
            .token_stride = token_stride,
            .block_tokens = sequence.block_tokens,
            .sources = sequence.table.data(),
            .targets = targets.data()};
  }

  std::uint32_t row_bytes;
  std::size_t token_stride, head_stride, block_stride;
  std::vector<std::byte> bytes;
};

/// Every kept row is found under the new table, and no byte of a shared block has changed.
void check_rows(Random& random, const Sequence& sequence, const EvictionPlan& plan,
                const Packed& packed) {
  const std::uint32_t sizes[] = {3, 4, 16, 34};
  Pool pool(random, sequence, sizes[random.below(4)], random.chance(50));
  const std::vector<std::byte> before = pool.bytes;
  const PackMoves moves{plan.kept.data(), packed.begin,
                        static_cast<std::uint32_t>(plan.kept.size())};
  for (std::size_t head = 0; head < 2; ++head) {
    const PageRows rows = pool.rows(head, sequence, packed.table);
    lethe::gpu::pack_rows(HostBlock<32>(random.next()), rows, pool.row_bytes, moves);
    for (std::uint32_t i = 0; i < plan.kept.size(); ++i) {
      const std::byte* old = before.data() + (rows.source(plan.kept[i]) - pool.bytes.data());
      REQUIRE(std::equal(old, old + pool.row_bytes, rows.target(i)));
    }
  }
  for (std::size_t block = 0; block < sequence.owners.size(); ++block) {
    if (sequence.owners[block] < 2) continue;
    const auto begin = static_cast<std::ptrdiff_t>(block * pool.block_stride);
    const auto end = begin + static_cast<std::ptrdiff_t>(pool.block_stride);
    REQUIRE(std::equal(before.begin() + begin, before.begin() + end, pool.bytes.begin() + begin));
  }
}

}  // namespace

TEST_CASE("tables and rows of random sequences, shared blocks among them") {
  Random random(1);
  std::size_t with_fresh = 0, whole_blocks = 0;
  for (int turn = 0; turn < 400; ++turn) {
    INFO("turn " << turn);
    const std::uint32_t sizes[] = {1, 3, 4, 16};
    const Sequence sequence(random, sizes[random.below(4)], random.chance(60));
    const std::vector<Slot> kept = survivors(random, sequence.tokens);
    const EvictionPlan plan = plan_of(kept, sequence.tokens);
    const std::size_t wanted = replaced_entries(sequence, plan).size();
    if (wanted > sequence.fresh.size()) continue;
    const Packed packed(random, sequence, plan, static_cast<std::uint32_t>(wanted));
    check_table(sequence, plan, packed);
    check_rows(random, sequence, plan, packed);
    REQUIRE(packed.begin <= plan.first_move);
    with_fresh += wanted != 0;
    whole_blocks += packed.begin < plan.first_move;
  }
  CHECK(with_fresh > 30);
  CHECK(whole_blocks > 10);
}

TEST_CASE("too few fresh blocks leave the sequence alone") {
  Random random(2);
  std::size_t refusals = 0;
  for (int turn = 0; turn < 200; ++turn) {
    const Sequence sequence(random, 4, true);
    const std::vector<Slot> kept = survivors(random, sequence.tokens);
    const EvictionPlan plan = plan_of(kept, sequence.tokens);
    const std::size_t wanted = replaced_entries(sequence, plan).size();
    if (wanted == 0) continue;
    const Packed packed(random, sequence, plan, static_cast<std::uint32_t>(wanted - 1));
    REQUIRE(packed.begin == refused_pages);
    REQUIRE(packed.table == sequence.table);
    REQUIRE(packed.freed_count == 0);
    REQUIRE(packed.fresh_used == 0);
    REQUIRE(std::count(packed.freed.begin(), packed.freed.end(), poison) ==
            static_cast<std::ptrdiff_t>(packed.freed.size()));
    ++refusals;
  }
  CHECK(refusals > 50);
}

TEST_CASE("a plan that only cuts the tail writes no block, shared or not") {
  Random random(3);
  const Sequence sequence(random, 4, true);
  std::vector<Slot> kept;
  for (Slot slot = 0; slot < (sequence.tokens + 1) / 2; ++slot) kept.push_back(slot);
  const Packed packed(random, sequence, plan_of(kept, sequence.tokens), 0);
  CHECK(packed.begin == kept.size());
  CHECK(packed.fresh_used == 0);
  check_table(sequence, plan_of(kept, sequence.tokens), packed);
}

TEST_CASE("unshared, table and rows are those of PagedCache") {
  Random random(4);
  for (int turn = 0; turn < 60; ++turn) {
    const Sequence sequence(random, 4, false);
    const std::size_t row = 8, block = 4 * row;
    std::vector<Half> keys(block * sequence.owners.size());
    for (Half& value : keys) value.bits = static_cast<std::uint16_t>(random.next() >> 32);
    std::vector<Half> ours = keys;
    Numbers freed;
    const auto free_block = [&](std::size_t, std::uint32_t number) { freed.push_back(number); };
    lethe::PagedCache<Half, decltype(free_block)> cache(
        {{.keys = keys.data(),
          .dimension = row,
          .key_strides = {.token = row, .head = row},
          .key_block_stride = block}},
        4, sequence.table.size(), free_block);
    for (const std::uint32_t number : sequence.table) cache.add_block(0, number);
    cache.append(0, sequence.tokens);
    const std::vector<Slot> kept = survivors(random, sequence.tokens);
    const EvictionPlan plan = plan_of(kept, sequence.tokens);
    cache.apply(std::span(&plan, 1));

    const Packed packed(random, sequence, plan, 0);
    const PageRows rows{.base = reinterpret_cast<std::byte*>(ours.data()),
                        .block_stride = block * sizeof(Half),
                        .token_stride = row * sizeof(Half),
                        .block_tokens = 4,
                        .sources = sequence.table.data(),
                        .targets = packed.table.data()};
    lethe::gpu::pack_rows(HostBlock<64>(random.next()), rows, row * sizeof(Half),
                          {kept.data(), packed.begin, static_cast<std::uint32_t>(kept.size())});
    const auto same = [](Half a, Half b) { return a.bits == b.bits; };
    REQUIRE(std::equal(ours.begin(), ours.end(), keys.begin(), keys.end(), same));
    REQUIRE(std::equal(cache.table(0).begin(), cache.table(0).end(), packed.table.begin()));
    std::reverse(freed.begin(), freed.end());
    REQUIRE(Numbers(packed.freed.begin(), packed.freed.begin() + packed.freed_count) == freed);
  }
}
