/// The command line of gpu_bench.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace gpu_bench {

struct Options {
  /// Where the JSON goes; empty: nowhere.
  std::string json;
  /// Rows whose names contain it; empty: all.
  std::string filter;
  bool quick = false;
};

/// Options, or the exit status of a program that is done: it has printed its usage, or what is
/// wrong with an argument. names: of all rows, of which a filter is to find one.
struct Parsed {
  std::optional<Options> options;
  int status = 0;
};
[[nodiscard]] Parsed parse(int count, const char* const* arguments,
                           const std::vector<std::string>& names);

}  // namespace gpu_bench
