/// Another scorer's weights as a draw: who weighs more stays more often, not always. VaSE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "lethe/exact_log.hpp"
#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"

namespace lethe {

/// Settings of Sampled.
template <class Scorer>
struct SampledConfig {
  /// What the weights are.
  typename Scorer::Config score{};
  /// Equal seeds give equal draws, on every machine.
  std::uint64_t seed = 1;

  bool operator==(const SampledConfig&) const = default;
};

/// A draw without replacement in proportion to another scorer's scores: the best k by weight / E,
/// with E exponential (Efraimidis and Spirakis 2006; VaSE, arXiv 2606.03928). E comes from a hash
/// of seed, layer, group, position and the number of queries seen, so each round draws anew and a
/// fork draws what its parent would. The proportion holds for a group by itself (one group, or
/// Scope::head); draws that are summed over groups follow it only roughly. Weights below 0 count as
/// 0, and stay last; those not finite stay so.
template <TokenScorer Scorer>
class Sampled : public ScorerAdaptor<Scorer> {
 public:
  using Config = SampledConfig<Scorer>;
  static constexpr std::string_view name = "sampled";

  Sampled(const Config& config, const ScoreShape& shape)
      : ScorerAdaptor<Scorer>(config.score, shape), seed_(config.seed) {}

  void advance(std::size_t queries) {
    ScorerAdaptor<Scorer>::advance(queries);
    queries_ += queries;
  }

  /// O(n) beside the inner scorer's.
  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    const std::span<const float> weights = this->scorer_.score(layer, group, positions, scratch);
    const std::uint64_t stream =
        detail::mix(detail::mix(detail::mix(seed_ ^ queries_) ^ layer) ^ group);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      scratch[i] = drawn(weights[i], detail::mix(stream ^ positions[i]));
    }
    return scratch.first(positions.size());
  }

  void reset() {
    ScorerAdaptor<Scorer>::reset();
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    ScorerAdaptor<Scorer>::archive(archive, self);
    archive(self.seed_);
    archive(self.queries_);
  }

 private:
  [[nodiscard]] LETHE_EXACT static float drawn(float weight, std::uint64_t word) {
    LETHE_EXACT_BODY
    if (!is_finite(weight)) return weight;
    if (!(weight > 0.0f)) return 0.0f;
    // Odd multiples of 2^-24: neither 0 nor 1 is among them.
    const float uniform =
        static_cast<float>(2 * static_cast<std::int32_t>(word >> 41) + 1) * 0x1p-24f;
    const double exponential = -static_cast<double>(exact_log(uniform));
    const double race = static_cast<double>(weight) / exponential;
    constexpr float most = std::numeric_limits<float>::max();
    return race < static_cast<double>(most) ? static_cast<float>(race) : most;
  }

  std::uint64_t seed_;
  /// Queries committed.
  std::uint64_t queries_ = 0;
};
static_assert(TokenScorer<Sampled<NoScore>>);

}  // namespace lethe
