/// Mass of the last few queries only, pooled over neighbours. SnapKV; TOVA with a window of one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/position_order.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// How neighbouring tokens share a score.
enum class Pooling : std::uint8_t { maximum, mean };

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
      : config_(checked(config, shape)),
        shape_(shape),
        row_query_(shape.layers * shape.groups * config.window, 0),
        rows_(shape.layers * shape.groups * config.window * shape.slots, 0.0f),
        order_(shape.slots),
        pooled_(shape.slots),
        pool_share_(1.0f / static_cast<float>(config.pool)) {}

  /// O(mass.size()), and O(slots) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    const std::int64_t number = queries_ + query + 1;
    if (number <= 0) return;
    const std::size_t row = row_index(layer, group, static_cast<std::uint64_t>(number));
    if (row_query_[row] > number) return;
    if (row_query_[row] < number) {
      std::fill_n(rows_.begin() + static_cast<std::ptrdiff_t>(row * shape_.slots), shape_.slots,
                  0.0f);
      row_query_[row] = number;
    }
    detail::add(rows_.data() + row * shape_.slots + first_slot, mass.data(), mass.size());
  }

  void advance(std::size_t queries) { queries_ += static_cast<std::int64_t>(queries); }

  /// O(n x (window + pool)); a sort more where slots were overwritten.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::span<float> sums = scratch.first(positions.size());
    sum_rows(layer, group, sums);
    if (config_.pool == 1) return sums;
    const std::span<const Slot> order = order_by_position(positions, order_);
    for (std::size_t i = 0; i < order.size(); ++i) pooled_[i] = sums[order[i]];
    for (std::size_t i = 0; i < order.size(); ++i) sums[order[i]] = pooled(i, order.size());
    return sums;
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    for_each_row(plan.layer, group, [&](std::span<float> row) { keep_row(row, plan); });
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    for_each_row(layer, group, [&](std::span<float> row) { row[slot] = 0.0f; });
  }

  void reset() {
    std::fill(row_query_.begin(), row_query_.end(), 0);
    std::fill(rows_.begin(), rows_.end(), 0.0f);
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.queries_);
    archive(self.row_query_);
    archive(self.rows_);
  }

  [[nodiscard]] bool valid() const {
    const bool past = std::all_of(row_query_.begin(), row_query_.end(), [this](std::int64_t query) {
      return query >= 0 && query <= queries_;
    });
    return past && queries_ < (std::int64_t{1} << 62);
  }

 private:
  [[nodiscard]] static const Config& checked(const Config& config, const ScoreShape& shape) {
    const std::size_t most = (std::size_t{1} << 48) / shape.layers / shape.groups / shape.slots;
    detail::require(config.window >= 1 && config.window <= most, "window", config.window,
                    "choose at least 1 query, and window x layers x groups x slots within 2^48");
    detail::require(config.pool % 2 == 1, "pool", config.pool, "choose an odd number of tokens");
    return config;
  }

  [[nodiscard]] std::size_t row_index(std::size_t layer, std::size_t group,
                                      std::uint64_t number) const {
    return (layer * shape_.groups + group) * config_.window + number % config_.window;
  }

  template <class Visit>
  void for_each_row(std::size_t layer, std::size_t group, Visit&& visit) {
    float* first = rows_.data() + row_index(layer, group, 0) * shape_.slots;
    for (std::size_t w = 0; w < config_.window; ++w) {
      visit(std::span<float>(first + w * shape_.slots, shape_.slots));
    }
  }

  void sum_rows(std::size_t layer, std::size_t group, std::span<float> sums) const {
    std::fill(sums.begin(), sums.end(), 0.0f);
    const std::size_t first = row_index(layer, group, 0);
    for (std::size_t w = 0; w < config_.window; ++w) {
      const std::int64_t age = queries_ - row_query_[first + w];
      if (row_query_[first + w] == 0 || age >= static_cast<std::int64_t>(config_.window)) continue;
      detail::add(sums.data(), rows_.data() + (first + w) * shape_.slots, sums.size());
    }
  }

  [[nodiscard]] LETHE_EXACT float pooled(std::size_t centre, std::size_t count) const {
    LETHE_EXACT_BODY
    const std::size_t reach = config_.pool / 2;
    const std::size_t begin = centre - std::min(centre, reach);
    const std::size_t end = std::min(count, centre + reach + 1);
    float result = pooled_[begin];
    for (std::size_t i = begin + 1; i < end; ++i) {
      result =
          config_.pooling == Pooling::maximum ? std::max(result, pooled_[i]) : result + pooled_[i];
    }
    return config_.pooling == Pooling::maximum ? result : result * pool_share_;
  }

  Config config_;
  ScoreShape shape_;
  std::int64_t queries_ = 0;
  // Number (from 1) of the query whose mass a row holds; 0: none.
  std::vector<std::int64_t> row_query_;
  std::vector<float> rows_;
  std::vector<Slot> order_;
  std::vector<float> pooled_;
  // Kept, since a division in the loop would round as -ffast-math pleases.
  float pool_share_;
};
static_assert(TokenScorer<WindowMass>);

}  // namespace lethe
