/// Runs a scorer in a real pruner over random steps, beside a model written from its formula.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "lethe/pruner.hpp"
#include "naive/pruner.hpp"
#include "naive/random.hpp"
#include "naive/token_cache.hpp"

namespace naive {

struct HistorySetup {
  lethe::PrunerConfig config{.layers = 1, .capacity = 40};
  std::size_t recent = 5;
  /// Most queries of a step; each comes in two heads, one call a head.
  std::size_t chunk = 1;
  std::size_t steps = 250;
  std::uint64_t seed = 1;
  /// Of 1 + score.
  double tolerance = 1e-6;
};

/// One layer and one kept set. Model, one for each group:
///   void pay(query, positions, mass): query counted from 1; one entry for each token it saw.
///   double score(position, queries) const: after so many queries.
template <class Scorer, class Model, unsigned Features = plain>
class History {
 public:
  History(const HistorySetup& setup, const typename Scorer::Config& score, const Model& model)
      : setup_(setup),
        pruner_(setup.config, {.retention = {.first_tokens = 0, .recent_tokens = setup.recent}},
                score, {}),
        cache_(1, 1),
        models_(setup.config.groups, model),
        random_(setup.seed) {}

  /// Returns how many tokens were dropped.
  std::size_t run() {
    for (std::size_t step = 0; step < setup_.steps; ++step) {
      const std::size_t tokens = random_.between(1, setup_.chunk);
      check_scores();
      make_room(tokens);
      append(tokens);
      attend(tokens);
      pruner_.commit();
    }
    return dropped_;
  }

 private:
  using Cache = TokenCache<Features>;

  void check_scores() {
    const std::span<const float> scores = pruner_.scores(0);
    for (std::size_t slot = 0; slot < positions_.size(); ++slot) {
      double wanted = 0;
      for (const Model& model : models_) wanted += model.score(positions_[slot], seen_);
      CAPTURE(slot, positions_[slot], seen_);
      REQUIRE_THAT(static_cast<double>(scores[slot]),
                   WithinAbs(wanted, setup_.tolerance * (1 + std::abs(wanted))));
    }
  }

  /// What goes is what the scores, just checked, put last.
  void make_room(std::size_t tokens) {
    Selection layer;
    layer.positions = positions_;
    layer.recent = setup_.recent;
    for (const float score : pruner_.scores(0)) layer.scores.push_back(double(score));
    const std::size_t gone = pruner_.make_room(cache_, tokens);
    dropped_ += gone;
    if (gone == 0) return;
    const std::vector<std::size_t> best = layer.best(positions_.size() - gone);
    if (cache_.vacant(0) != Cache::none) {
      REQUIRE(std::find(best.begin(), best.end(), cache_.vacant(0)) == best.end());
      return;
    }
    std::vector<std::uint32_t> kept;
    for (const std::size_t slot : best) kept.push_back(positions_[slot]);
    positions_ = kept;
    const auto held = pruner_.positions(0);
    REQUIRE(std::vector<std::uint32_t>(held.begin(), held.end()) == positions_);
  }

  void append(std::size_t tokens) {
    std::vector<std::uint32_t> ids(tokens);
    std::iota(ids.begin(), ids.end(), static_cast<std::uint32_t>(seen_));
    const std::size_t vacant = cache_.vacant(0);
    cache_.append(0, ids);
    std::size_t next = 0;
    if (vacant != Cache::none) positions_[vacant] = ids[next++];
    for (; next < tokens; ++next) positions_.push_back(ids[next]);
  }

  /// Head by head, as an engine may tell it: two heads a group.
  void attend(std::size_t queries) {
    const std::size_t columns = positions_.size();
    const std::size_t groups = models_.size();
    std::vector<float> mass(2 * groups * queries * columns);
    for (float& value : mass) value = draw();
    for (std::size_t head = 0; head < 2; ++head) {
      for (std::size_t group = 0; group < groups; ++group) {
        pruner_.observe(0, {.data = mass.data() + (2 * group + head) * queries * columns,
                            .queries = queries,
                            .columns = columns,
                            .first_group = group,
                            .group_count = 1});
      }
    }
    for (std::size_t query = 0; query < queries; ++query) pay(mass, queries, query);
    seen_ += queries;
  }

  void pay(const std::vector<float>& mass, std::size_t queries, std::size_t query) {
    const std::size_t columns = positions_.size();
    const std::size_t visible = columns - queries + query + 1;
    const std::vector<std::uint32_t> positions(
        positions_.begin(), positions_.begin() + static_cast<std::ptrdiff_t>(visible));
    for (std::size_t group = 0; group < models_.size(); ++group) {
      std::vector<double> paid(visible);
      for (std::size_t slot = 0; slot < visible; ++slot) {
        for (std::size_t head = 2 * group; head < 2 * group + 2; ++head) {
          paid[slot] += double(mass[(head * queries + query) * columns + slot]);
        }
      }
      models_[group].pay(seen_ + query + 1, positions, paid);
    }
  }

  /// Multiples of 2^-20 up to 1, each size as frequent as the next, and zeros: sums are exact.
  [[nodiscard]] float draw() {
    if (random_.chance(20)) return 0.0f;
    return static_cast<float>(random_.below(std::size_t{1} << random_.between(1, 20))) * 0x1p-20f;
  }

  HistorySetup setup_;
  lethe::Pruner<Scorer, lethe::UniformBudget> pruner_;
  Cache cache_;
  std::vector<Model> models_;
  Random random_;
  std::vector<std::uint32_t> positions_;
  std::size_t seen_ = 0;
  std::size_t dropped_ = 0;
};

}  // namespace naive
