/// A scorer that is told how much each token will be looked at, and when: an oracle for
/// evaluations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <lethe/budget.hpp>
#include <lethe/pruner.hpp>
#include <lethe/score.hpp>
#include <span>
#include <string_view>
#include <vector>

namespace decoder {

/// A query, counted from 0 in its text, and what it or a later one pays a token at most.
struct Look {
  std::uint32_t query = 0;
  float mass = 0;
};

/// [layer][position]: looks at a token, queries ascending.
using FutureLooks = std::vector<std::vector<std::vector<Look>>>;

/// Scores a token by the largest mass that a query yet to come will pay it.
class FutureMass {
 public:
  struct Config {
    FutureLooks looks;
  };
  static constexpr bool reads_mass = false;
  static constexpr std::string_view name = "future mass";

  FutureMass(const Config& config, const lethe::ScoreShape&) : looks_(config.looks) {}

  void record(std::size_t, std::size_t, std::int64_t, std::size_t, std::span<const float>) {}
  void advance(std::size_t queries) { seen_ += queries; }

  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t,
                                             std::span<const lethe::Position> positions,
                                             std::span<float> scratch) const {
    for (std::size_t i = 0; i < positions.size(); ++i) {
      scratch[i] = mass_to_come(looks_[layer], positions[i]);
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
  [[nodiscard]] float mass_to_come(const std::vector<std::vector<Look>>& layer,
                                   lethe::Position position) const {
    if (position >= layer.size()) return 0;
    const std::vector<Look>& looks = layer[position];
    const auto next = std::find_if(looks.begin(), looks.end(),
                                   [this](const Look& look) { return look.query >= seen_; });
    return next != looks.end() ? next->mass : 0;
  }

  FutureLooks looks_;
  std::uint64_t seen_ = 0;
};
static_assert(lethe::TokenScorer<FutureMass>);

/// Keeps what will be looked at most, and the most recent tokens.
class Oracle : public lethe::Pruner<FutureMass, lethe::UniformBudget> {
 public:
  Oracle(const lethe::PrunerConfig& pruner, const FutureMass::Config& looks,
         std::size_t recent_tokens)
      : Pruner(pruner, {.retention = {.recent_tokens = recent_tokens}}, looks, {}) {}
};

}  // namespace decoder
