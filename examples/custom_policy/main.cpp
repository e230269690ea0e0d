// A policy of one's own: a score, a budget, and the pruner they make up. Explained in
// docs/writing-a-policy.md.
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <lethe/lethe.hpp>
#include <span>
#include <string_view>
#include <vector>

// [score]
/// Cumulative mass divided by age: a token must keep earning its place.
class MassOverAge {
 public:
  struct Config {
    /// Queries a new token is given before its age counts.
    std::size_t grace = 16;
  };
  static constexpr bool reads_mass = true;
  static constexpr std::string_view name = "mass over age";

  MassOverAge(const Config& config, const lethe::ScoreShape& shape)
      : config_(config), shape_(shape), mass_(shape.layers * shape.groups * shape.slots) {}

  void record(std::size_t layer, std::size_t group, std::int64_t, std::size_t first_slot,
              std::span<const float> mass) {
    const std::span<float> row = row_of(layer, group).subspan(first_slot);
    for (std::size_t i = 0; i < mass.size(); ++i) row[i] += mass[i];
  }

  void advance(std::size_t queries) { seen_ += queries; }

  std::span<const float> score(std::size_t layer, std::size_t group,
                               std::span<const lethe::Position> positions,
                               std::span<float> scratch) {
    const std::span<const float> row = row_of(layer, group);
    for (std::size_t i = 0; i < positions.size(); ++i) {
      const std::size_t age = seen_ - positions[i] + config_.grace;
      scratch[i] = row[i] / static_cast<float>(age);
    }
    return scratch.first(positions.size());
  }

  void keep(const lethe::EvictionPlan& plan, std::size_t group) {
    lethe::keep_row(row_of(plan.layer, group), plan);
  }
  void forget(std::size_t layer, std::size_t group, lethe::Slot slot) {
    row_of(layer, group)[slot] = 0;
  }
  void reset() {
    mass_.assign(mass_.size(), 0.0f);
    seen_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.seen_);
    archive(self.mass_);
  }
  bool valid() const { return true; }

 private:
  std::span<float> row_of(std::size_t layer, std::size_t group) {
    return std::span(mass_).subspan((layer * shape_.groups + group) * shape_.slots, shape_.slots);
  }

  Config config_;
  lethe::ScoreShape shape_;
  std::size_t seen_ = 0;
  std::vector<float> mass_;
};
static_assert(lethe::TokenScorer<MassOverAge>);
// [score]

// [budget]
/// Keeps twice the effective number of tokens, so spread-out layers keep more.
struct EffectiveBudget {
  struct Config {
    double factor = 2.0;
  };
  explicit EffectiveBudget(const Config& config) : factor(config.factor) {}

  lethe::Budget budget(const lethe::LayerScores& layer) const {
    const double tokens = factor * lethe::effective_tokens(layer.summary);
    return {.tokens = layer.protected_tokens + static_cast<std::size_t>(tokens)};
  }

  double factor;
};
static_assert(lethe::BudgetAllocator<EffectiveBudget>);
// [budget]

// [policy]
using MyPolicy = lethe::Pruner<MassOverAge, EffectiveBudget>;

MyPolicy make_policy(std::size_t layers, std::size_t capacity) {
  return MyPolicy({.layers = layers, .capacity = capacity},
                  {.retention = {.first_tokens = 4, .recent_tokens = 32}, .first_threshold = 128},
                  {.grace = 16}, {.factor = 2.0});
}
// [policy]

// [view]
/// The smallest cache there is: token ids, so that one can see who survived.
struct TokenCache {
  std::vector<std::vector<int>> tokens;

  std::size_t layers() const { return tokens.size(); }
  std::size_t size(std::size_t layer) const { return tokens[layer].size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      lethe::compact(std::span<int>(tokens[plan.layer]), plan);
      tokens[plan.layer].resize(plan.kept.size());
    }
  }
};
static_assert(lethe::KVCacheView<TokenCache>);
// [view]

int main() {
  TokenCache cache{std::vector<std::vector<int>>(2)};
  MyPolicy pruner = make_policy(2, 256);
  for (int token = 0; token < 1000; ++token) {
    pruner.make_room(cache, 1);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      cache.tokens[layer].push_back(token);
      // Layer 0 attends evenly, layer 1 to every 50th token.
      std::vector<float> mass(cache.size(layer));
      for (std::size_t i = 0; i < mass.size(); ++i) {
        const bool hot = layer == 0 || cache.tokens[layer][i] % 50 == 0;
        mass[i] = hot ? 1.0f : 0.001f;
      }
      pruner.observe(layer, lethe::Mass<float>{.data = mass.data(), .columns = mass.size()});
    }
    pruner.commit();
  }
  std::printf("kept: %zu tokens in the even layer, %zu in the sharp one\n", cache.size(0),
              cache.size(1));
  return cache.size(1) < cache.size(0) ? 0 : 1;
}
