#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

#include "results.hpp"
#include "trace.hpp"

namespace serving {

/// What users are promised; the defaults are LayerKV's (arXiv 2410.00428).
struct Objectives {
  double first_token = 3.0;   ///< seconds until the first token (TTFT)
  double each_token = 0.200;  ///< seconds a token after it (TPOT)
};

/// A latency over all requests, in seconds.
struct Spread {
  double mean = 0;
  double median = 0;
  double p95 = 0;
  double p99 = 0;
};

/// Mean and percentiles (linear between neighbours, as numpy's); zeros for none. O(n log n).
Spread spread(std::vector<double> values);

/// What requests waited for: each list as long as there are requests that were served, but for
/// `each_token`, which those of a single token lack.
struct Latencies {
  std::vector<double> queue;        ///< until first scheduled
  std::vector<double> first_token;  ///< TTFT
  std::vector<double> each_token;   ///< TPOT: from the first token to the last, per token between
  std::vector<double> whole;        ///< until the last token
};
Latencies latencies(const Trace& trace, const std::vector<Served>& served);

/// What a run came to.
struct Summary {
  std::size_t served = 0;
  std::size_t refused = 0;
  Spread queue;
  Spread first_token;
  Spread each_token;
  Spread whole;
  double attained = 0;  ///< share of all requests that met both objectives
  double first_token_attained = 0;
  double each_token_attained = 0;
  double goodput = 0;        ///< requests that met both, a second of the makespan
  double requests_rate = 0;  ///< requests served a second of the makespan
  double token_rate = 0;     ///< tokens generated a second of the makespan
};
Summary summarise(const Trace& trace, const RunResults& results, const Objectives& objectives);

nlohmann::json to_json(const Spread& spread);
nlohmann::json to_json(const Summary& summary, const RunResults& results);

}  // namespace serving
