/// A uniform draw for each token, head and round: the null that every score must beat.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lethe/score.hpp"

namespace lethe {

/// Settings of RandomScore.
struct RandomScoreConfig {
  /// Equal seeds give equal draws, on every machine.
  std::uint64_t seed = 1;

  bool operator==(const RandomScoreConfig&) const = default;
};

namespace detail {

/// What the draws of one (layer, group) start from, once so many queries were seen.
[[nodiscard]] LETHE_HOST_DEVICE constexpr std::uint64_t draw_stream(std::uint64_t seed,
                                                                    std::uint64_t queries,
                                                                    std::uint64_t layer,
                                                                    std::uint64_t group) {
  return mix(mix(mix(seed ^ queries) ^ layer) ^ group);
}

/// A position's draw: a multiple of 2^-24 in [0, 1).
[[nodiscard]] LETHE_HOST_DEVICE constexpr float drawn_score(std::uint64_t stream,
                                                            Position position) {
  const auto bits = static_cast<std::int32_t>(mix(stream ^ position) >> 40);
  return static_cast<float>(bits) * 0x1p-24f;
}

}  // namespace detail

/// Uniform scores (Random Attention, arXiv 2609.03430), drawn from a hash of seed, layer, group,
/// position and the number of queries seen: without state, so a fork draws what its parent would.
class RandomScore {
 public:
  using Config = RandomScoreConfig;
  static constexpr bool reads_mass = false;
  static constexpr std::string_view name = "random";

  RandomScore(const Config& config, const ScoreShape&) : seed_(config.seed) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float>) {}
  void advance(std::size_t queries) { queries_ += queries; }

  /// Multiples of 2^-24 in [0, 1). O(n).
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) const {
    const std::uint64_t stream = detail::draw_stream(seed_, queries_, layer, group);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      scratch[i] = detail::drawn_score(stream, positions[i]);
    }
    return scratch.first(positions.size());
  }

  void keep(const EvictionPlan&, std::size_t) {}
  void forget(std::size_t, std::size_t, Slot) {}
  void reset() { queries_ = 0; }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.seed_);
    archive(self.queries_);
  }
  [[nodiscard]] bool valid() const { return true; }

 private:
  std::uint64_t seed_;
  std::uint64_t queries_ = 0;
};
static_assert(TokenScorer<RandomScore>);

}  // namespace lethe
