/// A random compaction's copy on the device.
#pragma once

#include <cstddef>

#include "compact_cases.hpp"
#include "device_memory.hpp"

namespace naive::compactions {

inline void add(Mirror& mirror, const Plans& plans) {
  mirror.add(plans.kept);
  mirror.add(plans.records);
  mirror.add(plans.lengths);
  mirror.add(batch);
}

inline void add(Mirror& mirror, const Tables& tables) {
  for (const Numbers* numbers : {&tables.tables, &tables.entries, &tables.owners, &tables.fresh,
                                 &tables.fresh_counts, &tables.freed, &tables.freed_counts,
                                 &tables.fresh_used, &tables.begins, &tables.workspace}) {
    mirror.add(*numbers);
  }
}

/// The same compaction of the mirror's copies.
inline Compaction on_device(const Mirror& mirror, Compaction compaction) {
  const auto move = [&](auto*& pointer) { pointer = mirror.on_device(pointer); };
  move(compaction.plans.kept);
  move(compaction.plans.counts);
  move(compaction.plans.first_moves);
  move(compaction.plans.lengths);
  move(compaction.batch.slot_of_row);
  for (std::size_t i = 0; i < compaction.strip_count; ++i) move(compaction.strips[i].base);
  for (std::size_t i = 0; i < compaction.page_count; ++i) move(compaction.pages[i].base);
  auto& tables = compaction.tables;
  for (auto* pointer : {&tables.tables, &tables.entries, &tables.freed, &tables.freed_counts,
                        &tables.fresh_used, &tables.begins, &tables.workspace}) {
    move(*pointer);
  }
  for (auto* pointer : {&tables.owners, &tables.fresh, &tables.fresh_counts}) move(*pointer);
  return compaction;
}

}  // namespace naive::compactions
