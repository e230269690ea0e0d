/// A scorer that is told which tokens will be needed, and until when: an oracle for evaluations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/budget.hpp>
#include <lethe/pruner.hpp>
#include <lethe/score.hpp>
#include <span>
#include <string_view>
#include <vector>

namespace decoder {

/// Scores a token 1 while it is still needed, then 0.
class KnownNeed {
 public:
  struct Config {
    /// For each position, the last one that needs it.
    std::vector<std::uint32_t> last_needs;
  };
  static constexpr bool reads_mass = false;
  static constexpr std::string_view name = "known need";

  KnownNeed(const Config& config, const lethe::ScoreShape&) : last_needs_(config.last_needs) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float>) {}
  void advance(std::size_t queries) { seen_ += queries; }

  [[nodiscard]] std::span<const float> score(std::size_t, std::size_t,
                                             std::span<const lethe::Position> positions,
                                             std::span<float> scratch) const {
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const lethe::Position position = positions[i];
      scratch[i] = position < last_needs_.size() && last_needs_[position] >= seen_ ? 1.0f : 0.0f;
    }
    return scratch.first(positions.size());
  }

  void keep(const lethe::EvictionPlan&, std::size_t) {}
  void forget(std::size_t, std::size_t, lethe::Slot) {}
  void reset() { seen_ = 0; }
  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.seen_);
  }
  [[nodiscard]] bool valid() const { return true; }

 private:
  std::vector<std::uint32_t> last_needs_;
  std::uint64_t seen_ = 0;
};
static_assert(lethe::TokenScorer<KnownNeed>);

/// Keeps what will be needed, and the most recent tokens.
class Oracle : public lethe::Pruner<KnownNeed, lethe::UniformBudget> {
 public:
  Oracle(const lethe::PrunerConfig& pruner, const KnownNeed::Config& needs,
         std::size_t recent_tokens)
      : Pruner(pruner, {.retention = {.recent_tokens = recent_tokens}}, needs, {}) {}
};

}  // namespace decoder
