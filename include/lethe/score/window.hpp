/// Mass of the last few queries only, pooled over neighbours. SnapKV; TOVA with a window of one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lethe/score.hpp"
#include "lethe/score/neighbour_pool.hpp"
#include "lethe/score/window_rows.hpp"

namespace lethe {

/// Settings of WindowMass.
struct WindowMassConfig {
  /// Queries that count (SnapKV: 32; TOVA: 1).
  std::size_t window = 32;
  /// Tokens pooled, an odd number; 1: none (SnapKV: 5 or 7).
  std::size_t pool = 7;
  Pooling pooling = Pooling::maximum;

  bool operator==(const WindowMassConfig&) const = default;
};

/// Sum of the mass that the last `window` queries paid, pooled over neighbours in position.
/// Memory: layers x groups x window x slots floats. A step costs a fill and an add a token.
class WindowMass {
 public:
  using Config = WindowMassConfig;
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "window mass";

  /// Throws std::invalid_argument when window is 0 or pool is even.
  WindowMass(const Config& config, const ScoreShape& shape)
      : rows_(config.window, shape), pool_(config.pool, config.pooling, shape.slots) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    rows_.record(layer, group, query, first_slot, mass);
  }

  void advance(std::size_t queries) { rows_.advance(queries); }

  /// O(n x (window + pool)); a sort more where slots were overwritten.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::span<float> sums = scratch.first(positions.size());
    std::fill(sums.begin(), sums.end(), 0.0f);
    rows_.for_each_recent(layer, group, sums.size(), [&](std::span<const float> row) {
      detail::add(sums.data(), row.data(), row.size());
    });
    pool_.apply(positions, positions.size(), sums);
    return sums;
  }

  void keep(const EvictionPlan& plan, std::size_t group) { rows_.keep(plan, group); }
  void forget(std::size_t layer, std::size_t group, Slot slot) { rows_.forget(layer, group, slot); }
  void reset() { rows_.reset(); }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    WindowRows::archive(archive, self.rows_);
  }

  [[nodiscard]] bool valid() const { return rows_.valid(); }

 private:
  WindowRows rows_;
  NeighbourPool pool_;
};
static_assert(TokenScorer<WindowMass>);

}  // namespace lethe
