/// Rotary embeddings of single rows: the turn that a position gives, its undoing, and the mean of
/// the turns that several positions give.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/config.hpp"
#include "lethe/exact_turn.hpp"
#include "lethe/numeric.hpp"

namespace lethe {

/// Which channels a rotation turns together.
enum class RotaryPairs : std::uint8_t {
  /// 2c and 2c + 1 (GGUF's llama).
  neighbours,
  /// c and c + pairs (GPT-NeoX, Hugging Face).
  halves,
};

/// Turns rows of one position at a time; channels beyond the pairs stay as they are. Nothing is
/// allocated after construction.
class Rotation {
 public:
  /// frequencies: radians by which one position turns each pair of channels; none: rows stay.
  /// Throws std::invalid_argument for one that is not finite.
  Rotation(std::span<const float> frequencies, RotaryPairs layout)
      : layout_(layout),
        turns_(frequencies.size()),
        cosines_(frequencies.size(), 1.0f),
        sines_(frequencies.size(), 0.0f) {
    for (std::size_t pair = 0; pair < frequencies.size(); ++pair) {
      detail::require(is_finite(frequencies[pair]), "frequencies", frequencies[pair],
                      "give finite ones");
      turns_[pair] = turns_of(static_cast<double>(frequencies[pair]));
    }
  }

  /// The position of the rows that follow. O(pairs), O(1) when it is that already.
  LETHE_INLINE LETHE_EXACT void set_position(Position position) {
    LETHE_EXACT_BODY
    if (position == position_) return;
    position_ = position;
    for (std::size_t pair = 0; pair < turns_.size(); ++pair) {
      const Turn turn = exact_turn(LETHE_PRODUCT(static_cast<double>(position), turns_[pair]));
      cosines_[pair] = turn.cosine;
      sines_[pair] = turn.sine;
    }
  }

  /// Gives a row the turn of the position. O(pairs).
  void turn(std::span<float> row) const { turn_pairs(row.data(), 1.0f); }

  /// Takes it from a row. O(pairs).
  void turn_back(std::span<float> row) const { turn_pairs(row.data(), -1.0f); }

  /// Pairs of channels that are turned.
  [[nodiscard]] std::size_t pairs() const { return turns_.size(); }
  /// The channels of a pair.
  [[nodiscard]] std::size_t first_of(std::size_t pair) const {
    return layout_ == RotaryPairs::halves ? pair : 2 * pair;
  }
  [[nodiscard]] std::size_t second_of(std::size_t pair) const {
    return layout_ == RotaryPairs::halves ? pair + pairs() : 2 * pair + 1;
  }

 private:
  friend class MeanRotation;

  /// Radians as turns less the whole ones, half a turn at most: a position times that fits what
  /// exact_turn takes.
  [[nodiscard]] LETHE_EXACT static double turns_of(double radians) {
    LETHE_EXACT_BODY
    const double turns = LETHE_PRODUCT(radians, 0.15915494309189535);
    return turns - std::floor(turns + 0.5);
  }

  void turn_pairs(float* row, float direction) const {
    const float* const cosines = cosines_.data();
    const float* const sines = sines_.data();
    if (layout_ == RotaryPairs::halves) {
      turn_each<1>(row, row + pairs(), cosines, sines, pairs(), direction);
    } else {
      turn_each<2>(row, row + 1, cosines, sines, pairs(), direction);
    }
  }

  /// The first channels of the pairs and the second ones, `Stride` apart.
  template <std::size_t Stride>
  LETHE_EXACT static void turn_each(float* LETHE_RESTRICT first, float* LETHE_RESTRICT second,
                                    const float* LETHE_RESTRICT cosines,
                                    const float* LETHE_RESTRICT sines, std::size_t count,
                                    float direction) {
    LETHE_EXACT_BODY
    for (std::size_t pair = 0; pair < count; ++pair) {
      const float x = first[Stride * pair];
      const float y = second[Stride * pair];
      const float sine = direction * sines[pair];
      first[Stride * pair] = LETHE_PRODUCT(x, cosines[pair]) - LETHE_PRODUCT(y, sine);
      second[Stride * pair] = LETHE_PRODUCT(x, sine) + LETHE_PRODUCT(y, cosines[pair]);
    }
  }

  RotaryPairs layout_;
  /// Turns that one position makes, by pair.
  std::vector<double> turns_;
  std::vector<float> cosines_;
  std::vector<float> sines_;
  Position position_ = 0;
};

/// The mean of the turns of several positions behind the newest: what rows of positions yet to come
/// are turned by on average. It also shortens a row, most where the positions disagree.
class MeanRotation {
 public:
  /// offsets: how far behind the newest position the others lie; at least one.
  MeanRotation(std::span<const float> frequencies, RotaryPairs layout,
               std::span<const Position> offsets)
      : rotation_(frequencies, layout),
        cosines_(frequencies.size(), 0.0f),
        sines_(frequencies.size(), 0.0f) {
    for (std::size_t pair = 0; pair < frequencies.size(); ++pair) average(pair, offsets);
    follow();
  }

  /// O(pairs), O(1) when it is that already.
  void set_newest(Position position) {
    if (position == rotation_.position_) return;
    rotation_.set_position(position);
    follow();
  }

  /// Gives a row the mean turn. O(pairs).
  void turn(std::span<float> row) const { rotation_.turn(row); }

  /// The transpose of turn: the inner product of turn_back(a) and b is that of a and turn(b).
  void turn_back(std::span<float> row) const { rotation_.turn_back(row); }

 private:
  LETHE_EXACT void average(std::size_t pair, std::span<const Position> offsets) {
    LETHE_EXACT_BODY
    const double turns = rotation_.turns_[pair];
    const double share = 1.0 / static_cast<double>(offsets.size());
    double cosine = 0;
    double sine = 0;
    for (const Position offset : offsets) {
      const Turn turn = exact_turn(LETHE_PRODUCT(static_cast<double>(offset), turns));
      cosine = cosine + static_cast<double>(turn.cosine);
      sine = sine + static_cast<double>(turn.sine);
    }
    cosines_[pair] = static_cast<float>(cosine * share);
    sines_[pair] = static_cast<float>(sine * share);
  }

  /// Lets the mean of the offsets follow the turn of the newest position. Products of floats are
  /// exact in double.
  LETHE_EXACT void follow() {
    LETHE_EXACT_BODY
    for (std::size_t pair = 0; pair < cosines_.size(); ++pair) {
      const double c = static_cast<double>(rotation_.cosines_[pair]);
      const double s = static_cast<double>(rotation_.sines_[pair]);
      const double mean_c = static_cast<double>(cosines_[pair]);
      const double mean_s = static_cast<double>(sines_[pair]);
      rotation_.cosines_[pair] = static_cast<float>(c * mean_c - s * mean_s);
      rotation_.sines_[pair] = static_cast<float>(s * mean_c + c * mean_s);
    }
  }

  Rotation rotation_;
  /// The mean of the offsets alone.
  std::vector<float> cosines_;
  std::vector<float> sines_;
};

}  // namespace lethe
