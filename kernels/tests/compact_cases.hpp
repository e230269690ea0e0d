/// Compactions at random: unequal lengths, a batch that is part of the slots, shared blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/compaction.hpp"
#include "lethe/plan.hpp"
#include "naive/random.hpp"

namespace naive::compactions {

using lethe::EvictionPlan;
using lethe::Slot;
using lethe::gpu::Compaction;
using lethe::gpu::DevicePlans;
using lethe::gpu::HostBlock;
using lethe::gpu::PageArray;
using lethe::gpu::StripArray;
using Bytes = std::vector<std::byte>;
using Numbers = std::vector<std::uint32_t>;

inline constexpr std::uint32_t layers = 2, slots = 4, capacity = 60, block_tokens = 4,
                               most_blocks = 17;
inline constexpr std::uint32_t poison = 0xDEADBEEFu;

inline Bytes noise(Random& random, std::size_t count) {
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 32);
  return bytes;
}

/// Plans of unequal lengths for every (layer, slot, head), and the batch's rows.
struct Plans {
  /// equal: the heads of a (layer, slot) hold and keep equally many tokens.
  Plans(Random& random, std::uint32_t heads_, bool equal_ = false) : heads(heads_), equal(equal_) {
    const std::size_t count = std::size_t{layers} * slots * heads;
    kept.assign(count * capacity, poison);
    lengths.assign(equal ? count / heads : count, poison);
    for (std::size_t plan = 0; plan < count; ++plan) {
      const bool follows = equal && plan % heads != 0;
      tokens.push_back(follows ? tokens.back()
                               : static_cast<std::uint32_t>(random.between(1, capacity)));
      const std::size_t percent = random.below(101);
      Numbers slots_kept;
      for (Slot slot = 0; slot < tokens.back(); ++slot) {
        // The last slots are taken where the count would not be reached without them.
        const std::size_t left = follows ? counts.back() - slots_kept.size() : capacity;
        const bool needed = follows && left >= tokens.back() - slot;
        if (left != 0 && (needed || random.chance(percent))) slots_kept.push_back(slot);
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
            .equal_counts = equal,
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
  bool equal;
  Numbers kept, counts, first_moves, tokens, lengths;
  /// Count and first move of each plan as members of a record of three numbers.
  Numbers records;
};

/// Rows 2 and 0 of the slots, with padding between, and a row that names no slot.
inline const std::vector<std::int32_t> batch{2, -1, 0, 9};
inline bool in_batch(std::size_t slot) { return slot == 2 || slot == 0; }

/// What the grids of compact() do, block after block.
inline void run(Random& random, const Compaction& compaction) {
  const auto grid = [&](auto body, std::uint32_t strips) {
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      for (std::uint32_t row = 0; row < compaction.batch.rows; ++row) {
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
inline StripArray strip_array(Bytes& memory, std::uint32_t row_bytes, std::uint32_t heads,
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

/// Keys, values, a byte's scale and a score for each (layer, slot), all packed by one call.
struct Contiguous {
  Contiguous(Random& random, std::uint32_t plan_heads) : plans(random, plan_heads), memories(4) {
    const bool heads_first = random.chance(50);
    const std::uint32_t sizes[] = {16, 6, 1, 4};
    compaction = {.plans = plans.view(), .strip_count = 4, .batch = {batch.data(), 4}};
    for (std::size_t i = 0; i < 4; ++i) {
      const std::uint32_t heads = plan_heads != 1 ? plan_heads : i == 3 ? 1 : 3;
      compaction.strips[i] = strip_array(memories[i], sizes[i], heads, heads_first);
      const Bytes filled = noise(random, memories[i].size());
      std::copy(filled.begin(), filled.end(), memories[i].begin());
    }
  }

  Plans plans;
  std::vector<Bytes> memories;
  Compaction compaction;
};

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
        const std::uint32_t used =
            (plans.tokens[number * plans.heads] + block_tokens - 1) / block_tokens;
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

inline PageArray page_array(Bytes& memory, std::uint32_t row_bytes, std::uint32_t heads) {
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

/// Keys and values in blocks, positions in plain memory, compacted together; plan_heads: 1, or 2
/// for plans of equal counts.
struct Paged {
  Paged(Random& random, bool hand_in, std::uint32_t plan_heads = 1)
      : plans(random, plan_heads, plan_heads != 1), tables(plans, hand_in) {
    compaction = {
        .plans = plans.view(), .strip_count = 1, .page_count = 2, .batch = {batch.data(), 4}};
    compaction.pages[0] = page_array(keys, 16, 2);
    compaction.pages[1] = page_array(values, 3, 2);
    compaction.strips[0] = strip_array(positions, 4, plan_heads, true);
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

}  // namespace naive::compactions
