#pragma once

#include <string>
#include <vector>

#include "metrics.hpp"
#include "profile.hpp"
#include "results.hpp"

namespace serving {

/// One policy at one rate.
struct ComparedRun {
  std::string policy;
  double rate = 0;  ///< mean requests a second
  Summary summary;
  Latencies latencies;
  RunResults results;
};

/// What was compared.
struct Comparison {
  std::string trace;
  std::size_t requests = 0;
  std::string machine;     ///< such as "1 x a100_sxm with llama-3.1-8b"
  bool is_of_run = false;  ///< step times as Profile::is_of_run says
  bool may_swap = false;   ///< the table says how many were swapped
  Objectives objectives;
  std::vector<ComparedRun> runs;  ///< rate by rate, the policies of each in the same order
};

/// The comparison as a table's cells, headings first.
std::vector<std::vector<std::string>> comparison_rows(const Comparison& comparison);

/// The comparison as a self-contained HTML page: the table, and for each rate how TTFT and TPOT are
/// distributed and how blocks and queues went; it needs no network and no script. O(results).
std::string comparison_page(const Comparison& comparison);

}  // namespace serving
