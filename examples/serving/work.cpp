#include "work.hpp"

#include "error.hpp"

namespace serving {

Trace trace_of(const WorkOptions& options) {
  Trace trace;
  if (options.trace.empty()) {
    SyntheticTrace made;
    made.seed = options.seed;
    if (options.requests > 0) made.requests = options.requests;
    trace = synthetic_trace(made);
  } else {
    trace = read_trace(options.trace);
    if (options.requests > 0 && options.requests < trace.requests.size())
      trace.requests.resize(options.requests);
  }
  const double span = trace.requests.back().arrival - trace.requests.front().arrival;
  if (options.rate > 0 && span > 0)
    speed_up(trace, options.rate * span / static_cast<double>(trace.requests.size()));
  return trace;
}

}  // namespace serving
