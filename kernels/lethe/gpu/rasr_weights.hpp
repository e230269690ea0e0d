/// What the next queries' mass weighs in the scores that lie on the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lethe/score/rasr.hpp"

namespace lethe::gpu {

/// Of one query of one row: what a score becomes is score x factor + mass x weight, each rounded.
using QueryWeight = lethe::detail::RowWeight;

/// The host's side of Rasr for one sequence: its weights, the same bits as in lethe::Rasr, where
/// every layer observes every query once. Where the factor is not 1 it is given once, and every
/// layer must be observed with it. Nothing is allocated.
class RasrWeights {
 public:
  /// Throws std::invalid_argument unless 0 < decay <= 1.
  explicit RasrWeights(const RasrConfig& config)
      : weight_(lethe::detail::checked_decay(config.decay)) {}

  /// The weight of a query of the step, counted from 0; ask once for each, in ascending order.
  [[nodiscard]] QueryWeight of(std::size_t query) {
    return lethe::detail::weight_of_row(weight_.of(static_cast<std::int64_t>(query)), shift_);
  }

  /// The step's queries count now.
  void commit(std::size_t queries) { weight_.advance(queries); }

  /// A new sequence.
  void reset() {
    weight_.reset();
    shift_ = 0;
  }

 private:
  lethe::detail::GrowingWeight weight_;
  std::int64_t shift_ = 0;
};

}  // namespace lethe::gpu
