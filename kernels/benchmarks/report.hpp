/// What a benchmark has measured, as a table and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sizes.hpp"

namespace gpu_bench {

/// Of many turns, in microseconds.
struct Spread {
  double median = 0;
  double least = 0;
  double most = 0;

  bool operator==(const Spread&) const = default;
};

/// times: at least one.
[[nodiscard]] Spread spread_of(std::vector<double> times);

/// What a row's value is held against: the subject's time over the floor's, at most; the floor's
/// over the subject's, at least; the subject's time in microseconds, at most.
enum class Limit : std::uint8_t { none, most_ratio, least_speed, most_time };

struct Target {
  Limit limit = Limit::none;
  double value = 0;
};

/// One line: a floor and a subject, timed in turns.
struct Row {
  std::string name;
  Spread floor{};
  Spread subject{};
  /// The median over the turns of subject / floor.
  double ratio = 0;
  /// Microseconds that the host took to enqueue the subject.
  double host = 0;
  Target target{};
  /// Bytes that the subject has to move at least; 0: not counted.
  double bytes = 0;
};

/// Times of the two, turn by turn, as many of each.
struct Turns {
  std::vector<double> floor;
  std::vector<double> subject;
  std::vector<double> host;
};

[[nodiscard]] Row row_of(const std::string& name, const Turns& turns, Target target, double bytes);

/// The value that the target is about.
[[nodiscard]] double value_of(const Row& row);
/// "met", "missed", or "-" where there is no target.
[[nodiscard]] std::string verdict_of(const Row& row);

[[nodiscard]] std::string table_head();
[[nodiscard]] std::string table_line(const Row& row);

/// Where and on what rows were measured.
struct Machine {
  std::string device;
  int multiprocessors = 0;
  std::uint64_t l2_bytes = 0;
  int driver = 0;
  int runtime = 0;
};

[[nodiscard]] std::string json_of(const Machine& machine, const Case& sizes,
                                  const std::vector<Row>& rows);

}  // namespace gpu_bench
