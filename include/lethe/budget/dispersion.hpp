/// A fixed total, shared by how widely each layer's attention is spread and how much it moves.
/// CAKE.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lethe/budget/total.hpp"
#include "lethe/exact_log.hpp"

namespace lethe {

/// Settings of DispersionBudget.
struct DispersionBudgetConfig {
  /// Tokens over all layers at a round, protected ones included.
  std::size_t total = 0;
  /// t1 and t2: the larger, the less the spread, or the movement, tells layers apart. The published
  /// ones were tuned for each model and budget, from 0.4 to 2.3; the authors' program's default.
  double entropy_temperature = 1.0;
  double variance_temperature = 1.0;

  bool operator==(const DispersionBudgetConfig&) const = default;
};

/// A total shared in proportion to H^(1/t1) V^(1/t2), where H and V are the entropy and the
/// variance of the scorer's window (CAKE, arXiv 2503.12491); what a layer's limit cuts off goes to
/// the others, and the sum is exact. Published for the prompt, whose layers hand tokens on as they
/// come; here the total is shared anew at each round. Needs a WindowScorer.
class DispersionBudget : public TotalBudget {
 public:
  using Config = DispersionBudgetConfig;
  static constexpr bool reads_window = true;

  /// Throws std::invalid_argument when total is 0 or a temperature below 0.01.
  explicit DispersionBudget(const Config& config)
      : TotalBudget({.total = config.total}),
        entropy_power_(power_of("entropy_temperature", config.entropy_temperature)),
        variance_power_(power_of("variance_temperature", config.variance_temperature)) {}

  /// From e^-30, where nothing was seen before the window, to e^30. O(1).
  [[nodiscard]] LETHE_EXACT double weight(const LayerScores& layer) const {
    LETHE_EXACT_BODY
    // Floats of their own, so that no compiler fuses a product with the addition.
    const float spread = static_cast<float>(log_of(layer.window.entropy) * entropy_power_);
    const float shift = static_cast<float>(log_of(layer.window.variance) * variance_power_);
    return static_cast<double>(exact_exp(std::clamp(spread + shift, -30.0f, 30.0f)));
  }

 private:
  [[nodiscard]] static double power_of(const char* field, double temperature) {
    detail::require(temperature >= 0.01, field, temperature, "choose 0.01 or more");
    return 1.0 / temperature;
  }

  [[nodiscard]] static double log_of(double value) {
    return static_cast<double>(exact_log(std::max(static_cast<float>(value), 0x1p-100f)));
  }

  double entropy_power_;
  double variance_power_;
};
static_assert(GlobalBudgetAllocator<DispersionBudget>);

}  // namespace lethe
