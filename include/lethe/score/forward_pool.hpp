/// Each query's mass, pooled over the tokens that follow, before another scorer is told of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lethe/score.hpp"
#include "lethe/score/adaptor.hpp"
#include "lethe/score/step_rows.hpp"

namespace lethe {

/// Settings of ForwardPool.
template <class Scorer>
struct ForwardPoolConfig {
  typename Scorer::Config score{};
  /// Tokens pooled, each one and those behind it; 1: none.
  std::size_t pool = 1;
  /// As Recurrence's.
  std::size_t open_queries = 1;

  bool operator==(const ForwardPoolConfig&) const = default;
};

/// Records for token i the largest mass that the query paid to tokens i .. i + pool - 1 (OpenVINO
/// GenAI's H2O). Mass is not told with positions, so these are neighbours in slots: the same thing
/// wherever no slot is overwritten. Memory: 4 x open_queries bytes a slot and group beside the
/// inner scorer's; none with pool 1.
template <TokenScorer Scorer>
class ForwardPool : public ScorerAdaptor<Scorer> {
 public:
  using Config = ForwardPoolConfig<Scorer>;
  static constexpr std::string_view name = "forward pool";

  /// Throws std::invalid_argument when pool or open_queries is 0.
  ForwardPool(const Config& config, const ScoreShape& shape)
      : ScorerAdaptor<Scorer>(config.score, shape),
        pool_(checked(config.pool)),
        rows_(config.open_queries, config.pool == 1 ? ScoreShape{} : shape),
        pooled_(config.pool == 1 ? 0 : shape.slots, 0.0f) {}

  /// O(mass.size()), and O(n x pool) at a query's first row.
  void record(std::size_t layer, std::size_t group, std::int64_t query, std::size_t first_slot,
              std::span<const float> mass) {
    if (pool_ == 1) return this->scorer_.record(layer, group, query, first_slot, mass);
    rows_.record(layer, group, queries_ + query + 1, first_slot, mass, hand_on(layer, group));
  }

  void advance(std::size_t queries) {
    ScorerAdaptor<Scorer>::advance(queries);
    queries_ += static_cast<std::int64_t>(queries);
  }

  [[nodiscard]] std::span<const float> score(std::size_t layer, std::size_t group,
                                             std::span<const Position> positions,
                                             std::span<float> scratch) {
    if (pool_ != 1) rows_.finish(layer, group, queries_, hand_on(layer, group));
    return this->scorer_.score(layer, group, positions, scratch);
  }

  void keep(const EvictionPlan& plan, std::size_t group) {
    if (pool_ != 1) rows_.keep(plan, group);
    ScorerAdaptor<Scorer>::keep(plan, group);
  }

  void forget(std::size_t layer, std::size_t group, Slot slot) {
    if (pool_ != 1) rows_.forget(layer, group, slot);
    ScorerAdaptor<Scorer>::forget(layer, group, slot);
  }

  void reset() {
    rows_.reset();
    ScorerAdaptor<Scorer>::reset();
    queries_ = 0;
  }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.queries_);
    StepRows::archive(archive, self.rows_);
    ScorerAdaptor<Scorer>::archive(archive, self);
  }

  [[nodiscard]] bool valid() const {
    return queries_ >= 0 && queries_ < (std::int64_t{1} << 62) && rows_.valid(queries_) &&
           ScorerAdaptor<Scorer>::valid();
  }

 private:
  struct HandOn {
    ForwardPool& owner;
    std::size_t layer;
    std::size_t group;

    void operator()(std::int64_t number, std::span<const float> mass) const {
      owner.pool(layer, group, number, mass);
    }
  };

  [[nodiscard]] static std::size_t checked(std::size_t pool) {
    detail::require(pool >= 1, "pool", pool, "choose at least 1 token");
    return pool;
  }

  [[nodiscard]] HandOn hand_on(std::size_t layer, std::size_t group) {
    return {*this, layer, group};
  }

  void pool(std::size_t layer, std::size_t group, std::int64_t number,
            std::span<const float> mass) {
    for (std::size_t i = 0; i < mass.size(); ++i) {
      pooled_[i] = largest(mass.subspan(i, std::min(pool_, mass.size() - i)));
    }
    this->scorer_.record(layer, group, number - queries_ - 1, 0,
                         std::span<const float>(pooled_).first(mass.size()));
  }

  [[nodiscard]] static float largest(std::span<const float> mass) {
    float most = mass[0];
    for (const float value : mass) {
      if (!is_finite(value)) return value;
      most = most < value ? value : most;
    }
    return most;
  }

  std::size_t pool_;
  std::int64_t queries_ = 0;
  StepRows rows_;
  std::vector<float> pooled_;
};
static_assert(TokenScorer<ForwardPool<NoScore>>);

}  // namespace lethe
