/// Least squares for three coefficients that cannot be negative.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "lethe/config.hpp"

namespace lethe::layerkv::detail {

using Triple = std::array<double, 3>;

/// The normal equations of rows `features . coefficients = target`, in any units: they are solved
/// in columns of equal size. Rows may be forgotten, and an anchor holds what they leave open.
class LeastSquares {
 public:
  LETHE_EXACT void add(const Triple& features, double target) {
    LETHE_EXACT_BODY
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        matrix_[i][j] += LETHE_PRODUCT(features[i], features[j]);
      }
      right_[i] += LETHE_PRODUCT(features[i], target);
    }
    rows_ += 1;
  }

  /// What was added so far counts `factor` times as much.
  LETHE_EXACT void forget(double factor) {
    LETHE_EXACT_BODY
    for (Triple& row : matrix_) {
      for (double& value : row) value *= factor;
    }
    for (double& value : right_) value *= factor;
    rows_ *= factor;
  }

  /// The coefficients, none below 0, with the least sum of squares, pulled towards an anchor as if
  /// `anchor_rows` rows of target 1 said so. What rows leave open moves in proportion: the more of
  /// a row an anchor explains, the looser it is. Without an anchor a coefficient that the rows
  /// cannot tell from the others is 0.
  ///
  /// The best of the seven sets of coefficients that may differ from 0: for three, trying them all
  /// is exact and needs no iteration.
  [[nodiscard]] LETHE_EXACT Triple solve(const Triple& anchor = {}, double anchor_rows = 0) const {
    LETHE_EXACT_BODY
    const System system = scaled(anchor, anchor_rows);
    Triple best{};
    double least = 0;
    for (unsigned active = 7; active != 0; --active) {
      Triple solution{};
      if (!eliminate(system, active, solution)) continue;
      const double value = objective(system, solution);
      if (value >= least) continue;
      least = value;
      best = solution;
    }
    for (std::size_t i = 0; i < 3; ++i) best[i] /= system.size[i];
    return best;
  }

 private:
  using Matrix = std::array<Triple, 3>;

  struct System {
    Matrix matrix{};
    Triple right{};
    Triple size{1, 1, 1};
  };

  // Below this share of its column a pivot is what rounding left of columns that say the same.
  static constexpr double smallest_pivot = 1e-9;
  // A fifth of a row, squared: an anchor that explains less is not held tighter.
  static constexpr double smallest_share = 0.04;

  [[nodiscard]] LETHE_EXACT System scaled(const Triple& anchor, double anchor_rows) const {
    LETHE_EXACT_BODY
    System system;
    for (std::size_t i = 0; i < 3; ++i) {
      if (matrix_[i][i] > 0) system.size[i] = std::sqrt(matrix_[i][i]);
    }
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        system.matrix[i][j] = matrix_[i][j] / system.size[i] / system.size[j];
      }
      system.right[i] = right_[i] / system.size[i];
      if (!(anchor_rows > 0)) continue;
      const double pulled = anchor[i] * system.size[i];
      const double least = LETHE_PRODUCT(rows_, smallest_share);
      const double ridge = anchor_rows / (LETHE_PRODUCT(pulled, pulled) + least);
      system.matrix[i][i] += ridge;
      system.right[i] += LETHE_PRODUCT(ridge, pulled);
    }
    return system;
  }

  /// Solves for the active coefficients; false when they cannot be told apart or one is negative.
  [[nodiscard]] LETHE_EXACT static bool eliminate(System system, unsigned active,
                                                  Triple& solution) {
    LETHE_EXACT_BODY
    const auto on = [active](std::size_t i) { return (active >> i & 1u) != 0; };
    for (std::size_t k = 0; k < 3; ++k) {
      if (!on(k)) continue;
      if (!(system.matrix[k][k] > smallest_pivot)) return false;
      for (std::size_t i = k + 1; i < 3; ++i) {
        if (on(i)) subtract(system, i, k, system.matrix[i][k] / system.matrix[k][k]);
      }
    }
    for (std::size_t k = 3; k-- != 0;) {
      if (!on(k)) continue;
      double value = system.right[k];
      for (std::size_t j = k + 1; j < 3; ++j) {
        value -= LETHE_PRODUCT(system.matrix[k][j], solution[j]);
      }
      solution[k] = value / system.matrix[k][k];
      if (!(solution[k] >= 0)) return false;
    }
    return true;
  }

  LETHE_EXACT static void subtract(System& system, std::size_t row, std::size_t pivot,
                                   double factor) {
    LETHE_EXACT_BODY
    for (std::size_t j = 0; j < 3; ++j) {
      system.matrix[row][j] -= LETHE_PRODUCT(factor, system.matrix[pivot][j]);
    }
    system.right[row] -= LETHE_PRODUCT(factor, system.right[pivot]);
  }

  /// The sum of squares, but for a constant.
  [[nodiscard]] LETHE_EXACT static double objective(const System& system, const Triple& solution) {
    LETHE_EXACT_BODY
    double value = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      double row = 0;
      for (std::size_t j = 0; j < 3; ++j) row += LETHE_PRODUCT(system.matrix[i][j], solution[j]);
      value += LETHE_PRODUCT(solution[i], row - 2 * system.right[i]);
    }
    return value;
  }

  Matrix matrix_{};
  Triple right_{};
  double rows_ = 0;
};

}  // namespace lethe::layerkv::detail
