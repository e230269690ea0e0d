/// The rows of the table. A new one goes into the file of its group; a new group gets a file, and a
/// line in all_entries.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench.hpp"

namespace gpu_bench {

/// A row's name, "group/what", and what measures it: checks the results once, times them, and
/// throws std::runtime_error where a call failed or a result is wrong.
struct Entry {
  std::string name;
  std::function<Row(const std::string& name, const Bench& bench)> measure;
};
using Entries = std::vector<Entry>;

[[nodiscard]] Entries observe_entries();
[[nodiscard]] Entries deferred_entries();
[[nodiscard]] Entries plan_entries();
[[nodiscard]] Entries compact_entries();
[[nodiscard]] Entries graph_entries();
[[nodiscard]] Entries step_entries();
[[nodiscard]] Entries transfer_entries();

/// All of them, in the order of the table.
[[nodiscard]] inline Entries all_entries() {
  Entries all;
  for (const Entries& group :
       {observe_entries(), deferred_entries(), plan_entries(), compact_entries(), graph_entries(),
        step_entries(), transfer_entries()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace gpu_bench
