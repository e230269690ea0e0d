// The compaction's grids, block after block on the host, beside a model that packs by hand; and
// what is refused before any launch.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/compact.hpp"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/compaction.hpp"
#include "naive/random.hpp"

namespace {

using lethe::EvictionPlan;
using lethe::Slot;
using lethe::gpu::Compaction;
using lethe::gpu::DevicePlans;
using lethe::gpu::HostBlock;
using lethe::gpu::PageArray;
using lethe::gpu::refused_pages;
using lethe::gpu::Status;
using lethe::gpu::StripArray;
using naive::Random;
using Bytes = std::vector<std::byte>;
using Numbers = std::vector<std::uint32_t>;

constexpr std::uint32_t layers = 2, slots = 4, capacity = 60, block_tokens = 4, most_blocks = 17;
constexpr std::uint32_t poison = 0xDEADBEEFu;

Bytes noise(Random& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 32);
  return bytes;
}

/// Plans of unequal lengths for every (layer, slot, head), and the batch's rows.
struct Plans {
  Plans(Random& random, std::uint32_t heads_) : heads(heads_) {
    const std::size_t count = std::size_t{layers} * slots * heads;
    kept.assign(count * capacity, poison);
    lengths.assign(count, poison);
    for (std::size_t plan = 0; plan < count; ++plan) {
      tokens.push_back(static_cast<std::uint32_t>(random.between(1, capacity)));
      const std::size_t percent = random.below(101);
      Numbers slots_kept;
      for (Slot slot = 0; slot < tokens.back(); ++slot) {
        if (random.chance(percent)) slots_kept.push_back(slot);
      }
      std::copy(slots_kept.begin(), slots_kept.end(),
                kept.begin() + static_cast<std::ptrdiff_t>(plan * capacity));
      counts.push_back(static_cast<std::uint32_t>(slots_kept.size()));
      first_moves.push_back(lethe::first_move_of(slots_kept));
      records.insert(records.end(), {poison, counts.back(), first_moves.back()});
    }
  }
  [[nodiscard]] DevicePlans view() {
    return {.kept = kept.data(),
            .counts = records.data() + 1,
            .first_moves = records.data() + 2,
            .stride = 3,
            .lengths = lengths.data(),
            .layers = layers,
            .slots = slots,
            .heads = heads,
            .capacity = capacity};
  }
  [[nodiscard]] EvictionPlan plan(std::size_t number) const {
    return {.tokens = tokens[number],
            .first_move = first_moves[number],
            .kept = {kept.data() + number * capacity, counts[number]}};
  }
  [[nodiscard]] std::size_t number(std::size_t layer, std::size_t slot, std::size_t head) const {
    return (layer * slots + slot) * heads + (heads == 1 ? 0 : head);
  }

  std::uint32_t heads;
  Numbers kept, counts, first_moves, tokens, lengths;
  /// Count and first move of each plan as members of a record of three numbers.
  Numbers records;
};

/// Rows 2 and 0 of the slots, with padding between, and a row that names no slot.
const std::vector<std::int32_t> batch{2, -1, 0, 9};
bool in_batch(std::size_t slot) { return slot == 2 || slot == 0; }

void run(Random& random, const Compaction& compaction) {
  REQUIRE(lethe::gpu::check(compaction).ok());
  const auto grid = [&](auto body, std::uint32_t strips) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      for (std::uint32_t row = 0; row < compaction.rows; ++row) {
        for (std::uint32_t strip = strips; strip-- > 0;) body(strip, row, layer);
      }
    }
  };
  const auto block = [&] { return HostBlock<32>(random.next()); };
  if (compaction.page_count != 0) {
    grid([&](auto, auto row,
             auto layer) { lethe::gpu::plan_pages_block(block(), compaction, row, layer); },
         1);
  }
  grid([&](auto strip, auto row,
           auto layer) { lethe::gpu::compact_block(block(), compaction, strip, row, layer); },
       strips_of(compaction));
  if (compaction.page_count == 0) return;
  grid([&](auto, auto row,
           auto layer) { lethe::gpu::publish_pages_block(block(), compaction, row, layer); },
       1);
}

/// An array of rows, token by token or head by head, in each slot of each layer.
StripArray strip_array(Bytes& memory, std::uint32_t row_bytes, std::uint32_t heads,
                       bool heads_first) {
  const std::size_t slot_stride = std::size_t{row_bytes} * heads * capacity;
  memory.resize(slot_stride * slots * layers);
  return {.base = memory.data(),
          .row_bytes = row_bytes,
          .heads = heads,
          .token_stride = heads_first ? row_bytes : row_bytes * heads,
          .head_stride = heads_first ? row_bytes * capacity : row_bytes,
          .slot_stride = slot_stride,
          .layer_stride = slot_stride * slots};
}

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

/// Keys, values, a byte's scale and a score for each (layer, slot), all packed by one call.
void check_contiguous(Random& random, std::uint32_t plan_heads) {
  Plans plans(random, plan_heads);
  const bool heads_first = random.chance(50);
  const std::uint32_t heads = plan_heads == 1 ? 3 : plan_heads;
  std::vector<Bytes> memories(4), expected(4);
  const std::uint32_t sizes[] = {16, 6, 1, 4};
  Compaction compaction{
      .plans = plans.view(), .strip_count = 4, .slot_of_row = batch.data(), .rows = 4};
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint32_t own = i == 3 && plan_heads == 1 ? 1 : heads;
    compaction.strips[i] = strip_array(memories[i], sizes[i], own, heads_first);
    memories[i] = noise(random, memories[i].size());
    compaction.strips[i].base = memories[i].data();
    expected[i] = memories[i];
    expect(expected[i], compaction.strips[i], plans);
  }
  run(random, compaction);
  for (std::size_t i = 0; i < 4; ++i) REQUIRE(memories[i] == expected[i]);
  for (std::size_t plan = 0; plan < plans.lengths.size(); ++plan) {
    const std::size_t slot = plan / plans.heads % slots;
    REQUIRE(plans.lengths[plan] == (in_batch(slot) ? plans.counts[plan] : poison));
  }
}

/// Tables over one pool for each layer, the first block of every table shared by all slots.
struct Tables {
  explicit Tables(const Plans& plans, bool hand_in) {
    const std::size_t count = std::size_t{layers} * slots;
    tables.assign(count * most_blocks, poison);
    owners.assign(layers * pool_blocks, 1);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      owners[layer * pool_blocks] = slots;
      std::uint32_t next = 1;
      for (std::size_t slot = 0; slot < slots; ++slot) {
        const std::size_t number = layer * slots + slot;
        const std::uint32_t used = (plans.tokens[number] + block_tokens - 1) / block_tokens;
        tables[number * most_blocks] = 0;
        for (std::uint32_t entry = 1; entry < used; ++entry) {
          tables[number * most_blocks + entry] = next++;
        }
        entries.push_back(used);
        fresh.push_back(next++);
        fresh_counts.push_back(hand_in ? 1 : 0);
      }
    }
    workspace = freed = Numbers(tables.size(), poison);
    freed_counts = fresh_used = begins = Numbers(count, poison);
  }
  void place_in(Compaction& compaction) {
    compaction.tables = {.tables = tables.data(),
                         .entries = entries.data(),
                         .capacity = most_blocks,
                         .block_tokens = block_tokens,
                         .owners = owners.data(),
                         .owners_stride = pool_blocks,
                         .fresh = fresh.data(),
                         .fresh_counts = fresh_counts.data(),
                         .fresh_capacity = 1,
                         .freed = freed.data(),
                         .freed_counts = freed_counts.data(),
                         .fresh_used = fresh_used.data(),
                         .begins = begins.data(),
                         .workspace = workspace.data()};
  }
  [[nodiscard]] const std::uint32_t* table(std::size_t number) const {
    return tables.data() + number * most_blocks;
  }

  static constexpr std::uint32_t pool_blocks = slots * most_blocks;
  Numbers tables, entries, owners, fresh, fresh_counts, freed, freed_counts, fresh_used, begins,
      workspace;
};

PageArray page_array(Bytes& memory, std::uint32_t row_bytes, std::uint32_t heads) {
  const std::size_t block_stride = std::size_t{row_bytes} * heads * block_tokens;
  memory.resize(block_stride * Tables::pool_blocks * layers);
  return {.base = memory.data(),
          .row_bytes = row_bytes,
          .heads = heads,
          .token_stride = row_bytes,
          .head_stride = std::size_t{row_bytes} * block_tokens,
          .block_stride = block_stride,
          .layer_stride = block_stride * Tables::pool_blocks};
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
  const EvictionPlan plan = plans.plan(number);
  const std::size_t count = moved ? plan.kept.size() : plan.tokens;
  for (std::size_t head = 0; head < array.heads; ++head) {
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

/// Keys and values in blocks, positions in plain memory, compacted together.
struct Paged {
  Paged(Random& random, bool hand_in) : plans(random, 1), tables(plans, hand_in) {
    compaction = {.plans = plans.view(),
                  .strip_count = 1,
                  .page_count = 2,
                  .slot_of_row = batch.data(),
                  .rows = 4};
    compaction.pages[0] = page_array(keys, 16, 2);
    compaction.pages[1] = page_array(values, 3, 2);
    compaction.strips[0] = strip_array(positions, 4, 1, true);
    tables.place_in(compaction);
    for (Bytes* memory : {&keys, &values, &positions}) {
      const Bytes filled = noise(random, memory->size());
      std::copy(filled.begin(), filled.end(), memory->begin());
    }
  }

  Plans plans;
  Tables tables;
  Bytes keys, values, positions;
  Compaction compaction;
};

void check_positions(const Paged& paged, const Bytes& before, std::size_t number, bool moved) {
  Bytes strip = before;
  std::byte* rows = strip.data() + number * capacity * 4;
  if (moved) lethe::compact_bytes(rows, 4, 4, paged.plans.plan(number));
  const auto first = static_cast<std::ptrdiff_t>(number * capacity * 4);
  REQUIRE(std::equal(rows, rows + capacity * 4, paged.positions.begin() + first));
}

/// Returns how many sequences were left alone.
std::size_t check_paged(Random& random, bool hand_in) {
  Paged paged(random, hand_in);
  const Tables& tables = paged.tables;
  const Bytes old_keys = paged.keys, old_values = paged.values, old_positions = paged.positions;
  const Numbers old_tables = tables.tables, old_entries = tables.entries;
  run(random, paged.compaction);
  std::size_t refusals = 0;
  for (std::size_t number = 0; number < tables.entries.size(); ++number) {
    const bool refused = in_batch(number % slots) && tables.begins[number] == refused_pages;
    const bool moved = in_batch(number % slots) && !refused;
    const std::uint32_t count = paged.plans.counts[number];
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
  refuses([](auto& c) { c.rows = 65536; }, "rows:");
  refuses([](auto& c) { c.slot_of_row = nullptr, c.rows = 5; }, "slot_of_row:");
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
