// The compaction's grids, block after block on the host, beside a model that packs by hand; and
// what is refused before any launch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "compact_cases.hpp"
#include "lethe/compact.hpp"
#include "lethe/gpu/compaction.hpp"
#include "naive/random.hpp"

namespace {

using lethe::gpu::refused_pages;
using lethe::gpu::Status;
using naive::Random;
using namespace naive::compactions;

/// What compact_bytes makes of all strips of the batch.
void expect(Bytes& memory, const StripArray& array, const Plans& plans) {
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      for (std::size_t head = 0; in_batch(slot) && head < array.heads; ++head) {
        lethe::compact_bytes(memory.data() + layer * array.layer_stride + slot * array.slot_stride +
                                 head * array.head_stride,
                             array.row_bytes, array.token_stride,
                             plans.plan(plans.number(layer, slot, head)));
      }
    }
  }
}

void check_contiguous(Random& random, std::uint32_t plan_heads) {
  Contiguous given(random, plan_heads);
  const Plans& plans = given.plans;
  std::vector<Bytes> expected = given.memories;
  for (std::size_t i = 0; i < 4; ++i) expect(expected[i], given.compaction.strips[i], plans);
  REQUIRE(lethe::gpu::check(given.compaction).ok());
  run(random, given.compaction);
  for (std::size_t i = 0; i < 4; ++i) REQUIRE(given.memories[i] == expected[i]);
  for (std::size_t plan = 0; plan < plans.lengths.size(); ++plan) {
    const std::size_t slot = plan / plans.heads % slots;
    REQUIRE(plans.lengths[plan] == (in_batch(slot) ? plans.counts[plan] : poison));
  }
}

std::size_t place_of(const PageArray& array, std::size_t layer, const std::uint32_t* table,
                     std::size_t head, std::size_t token) {
  return layer * array.layer_stride + table[token / block_tokens] * array.block_stride +
         token % block_tokens * array.token_stride + head * array.head_stride;
}

/// Every kept row of a slot lies where its new table says, or all is as it was.
void check_rows(const PageArray& array, const Bytes& before, const Bytes& after,
                const Numbers& old_tables, const Tables& tables, const Plans& plans,
                std::size_t number) {
  const std::size_t layer = number / slots;
  const bool moved = in_batch(number % slots) && tables.begins[number] != refused_pages;
  for (std::size_t head = 0; head < array.heads; ++head) {
    const EvictionPlan plan = plans.plan(plans.number(layer, number % slots, head));
    const std::size_t count = moved ? plan.kept.size() : plan.tokens;
    for (std::size_t i = 0; i < count; ++i) {
      const auto old = static_cast<std::ptrdiff_t>(place_of(
          array, layer, old_tables.data() + number * most_blocks, head, moved ? plan.kept[i] : i));
      const auto now =
          static_cast<std::ptrdiff_t>(place_of(array, layer, tables.table(number), head, i));
      REQUIRE(std::equal(before.begin() + old, before.begin() + old + array.row_bytes,
                         after.begin() + now));
    }
  }
}

void check_positions(const Paged& paged, const Bytes& before, std::size_t number, bool moved) {
  const std::size_t heads = paged.plans.heads;
  for (std::size_t plan = number * heads; plan < (number + 1) * heads; ++plan) {
    Bytes strip = before;
    std::byte* rows = strip.data() + plan * capacity * 4;
    if (moved) lethe::compact_bytes(rows, 4, 4, paged.plans.plan(plan));
    const auto first = static_cast<std::ptrdiff_t>(plan * capacity * 4);
    REQUIRE(std::equal(rows, rows + capacity * 4, paged.positions.begin() + first));
  }
}

/// Returns how many sequences were left alone.
std::size_t check_paged(Random& random, bool hand_in, std::uint32_t plan_heads = 1) {
  Paged paged(random, hand_in, plan_heads);
  const Tables& tables = paged.tables;
  const Bytes old_keys = paged.keys, old_values = paged.values, old_positions = paged.positions;
  const Numbers old_tables = tables.tables, old_entries = tables.entries;
  REQUIRE(lethe::gpu::check(paged.compaction).ok());
  run(random, paged.compaction);
  std::size_t refusals = 0;
  for (std::size_t number = 0; number < tables.entries.size(); ++number) {
    const bool refused = in_batch(number % slots) && tables.begins[number] == refused_pages;
    const bool moved = in_batch(number % slots) && !refused;
    const std::uint32_t count = paged.plans.counts[number * paged.plans.heads];
    refusals += refused;
    check_rows(paged.compaction.pages[0], old_keys, paged.keys, old_tables, tables, paged.plans,
               number);
    check_rows(paged.compaction.pages[1], old_values, paged.values, old_tables, tables, paged.plans,
               number);
    check_positions(paged, old_positions, number, moved);
    REQUIRE(paged.plans.lengths[number] == (moved ? count : poison));
    const std::uint32_t blocks = (count + block_tokens - 1) / block_tokens;
    REQUIRE(tables.entries[number] == (moved ? blocks : old_entries[number]));
  }
  return refusals;
}

}  // namespace

TEST_CASE("keys, values, scales and scores of a batch that is part of the slots") {
  Random random(1);
  for (int turn = 0; turn < 40; ++turn) check_contiguous(random, 1);
}

TEST_CASE("a plan for each head") {
  Random random(2);
  for (int turn = 0; turn < 20; ++turn) check_contiguous(random, 2);
}

TEST_CASE("paged keys and values, a shared first block, and positions beside them") {
  Random random(3);
  for (int turn = 0; turn < 40; ++turn) CHECK(check_paged(random, true) == 0);
}

TEST_CASE("paged heads that keep other tokens, equally many, have one table") {
  Random random(6);
  for (int turn = 0; turn < 40; ++turn) CHECK(check_paged(random, true, 2) == 0);
  std::size_t refusals = 0;
  for (int turn = 0; turn < 20; ++turn) refusals += check_paged(random, false, 2);
  CHECK(refusals > 20);
}

TEST_CASE("without fresh blocks sequences that would write a shared one are left alone") {
  Random random(4);
  std::size_t refusals = 0;
  for (int turn = 0; turn < 40; ++turn) refusals += check_paged(random, false);
  CHECK(refusals > 40);
  CHECK(refusals < 40 * layers * 2);
}

TEST_CASE("arguments are refused on the host, each by its name") {
  Random random(5);
  const Paged paged(random, true);
  Compaction good = paged.compaction;
  good.strips[0].heads = 2;
  good.strips[0].head_stride = 4;
  REQUIRE(lethe::gpu::check(good).ok());
  const auto refuses = [&](auto change, const char* field) {
    Compaction bad = good;
    change(bad);
    const Status status = lethe::gpu::check(bad);
    CHECK(status.code == lethe::gpu::invalid_argument);
    CHECK(std::string(status.call) == "compact");
    CHECK_THAT(status.remedy, Catch::Contains(field));
  };
  refuses([](auto& c) { c.plans.kept = nullptr; }, "kept:");
  refuses([](auto& c) { c.plans.counts = nullptr; }, "counts:");
  refuses([](auto& c) { c.plans.first_moves = nullptr; }, "first_moves:");
  refuses([](auto& c) { c.plans.stride = 0; }, "stride:");
  refuses([](auto& c) { c.plans.layers = 0; }, "layers:");
  refuses([](auto& c) { c.plans.layers = 65536; }, "layers:");
  refuses([](auto& c) { c.plans.slots = 0; }, "slots:");
  refuses([](auto& c) { c.plans.heads = 0; }, "heads:");
  refuses([](auto& c) { c.plans.heads = 3; }, "heads:");
  refuses([](auto& c) { c.plans.heads = 2; }, "heads: a table");
  refuses([](auto& c) { c.plans.capacity = 0; }, "capacity:");
  refuses([](auto& c) { c.strips[0].base = nullptr; }, "base:");
  refuses([](auto& c) { c.strips[0].row_bytes = 0; }, "row_bytes:");
  refuses([](auto& c) { c.strips[0].heads = 0; }, "heads:");
  refuses([](auto& c) { c.strips[0].token_stride = 3; }, "token_stride:");
  refuses([](auto& c) { c.strips[0].head_stride = 3; }, "head_stride:");
  refuses([](auto& c) { c.pages[0].block_stride = 15; }, "block_stride:");
  refuses([](auto& c) { c.plans.capacity = 1u << 28; }, "row_bytes:");
  refuses([](auto& c) { c.strip_count = 9; }, "strip_count:");
  refuses([](auto& c) { c.page_count = 5; }, "page_count:");
  refuses([](auto& c) { c.strip_count = c.page_count = 0; }, "strip_count:");
  refuses([](auto& c) { c.batch.rows = 65536; }, "rows:");
  refuses([](auto& c) { c.batch = {nullptr, 5}; }, "slot_of_row:");
  refuses([](auto& c) { c.tables.tables = nullptr; }, "tables:");
  refuses([](auto& c) { c.tables.entries = nullptr; }, "tables:");
  refuses([](auto& c) { c.tables.workspace = nullptr; }, "workspace:");
  refuses([](auto& c) { c.tables.workspace = c.tables.tables; }, "workspace:");
  refuses([](auto& c) { c.tables.block_tokens = 0; }, "block_tokens:");
  refuses([](auto& c) { c.tables.capacity = 0; }, "capacity:");
  refuses([](auto& c) { c.tables.freed = nullptr; }, "freed:");
  refuses([](auto& c) { c.tables.freed_counts = nullptr; }, "freed:");
  refuses([](auto& c) { c.tables.fresh_used = nullptr; }, "fresh_used:");
  refuses([](auto& c) { c.tables.begins = nullptr; }, "begins:");
  refuses([](auto& c) { c.tables.fresh = nullptr; }, "fresh:");
}
