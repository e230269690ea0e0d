// Prints a digest of the scores that several scorers make of pseudo-random attention, keys, values
// and queries. Compiled with several compilers and flags, it must always print the same. What
// pruners make of scores is in plan_digest.cpp.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "digest.hpp"
#include "lethe/budget/dispersion.hpp"
#include "lethe/score/block_quota.hpp"
#include "lethe/score/cache_score.hpp"
#include "lethe/score/gumbel_mass.hpp"
#include "lethe/score/projected.hpp"
#include "lethe/score/rules/capacity.hpp"
#include "lethe/score/rules/expected_mass.hpp"
#include "lethe/score/rules/trigonometric.hpp"
#include "lethe/score/rules/two_pace_mass.hpp"
#include "lethe/score/supersession.hpp"
#include "lethe/score/window.hpp"
#include "lethe/score/window_shift.hpp"
#include "lethe/subnormals.hpp"

namespace {

constexpr lethe::ScoreShape shape{.layers = 1, .groups = 2, .slots = 60};
constexpr lethe::HeadShape heads{
    .kv_heads = shape.groups, .key_dimension = 13, .value_dimension = 10};
constexpr std::size_t query_heads = 6;
constexpr std::size_t width = 5;

std::vector<float> channels(Source& source, std::size_t count) {
  std::vector<float> row(count);
  for (float& channel : row) channel = source.channel();
  return row;
}

/// One layer's keys and values.
class Cache {
 public:
  void append(Source& source) {
    for (Head& head : heads_) {
      head.keys.push_back(channels(source, heads.key_dimension));
      head.values.push_back(channels(source, heads.value_dimension));
    }
  }
  void keep(std::span<const lethe::Slot> kept) {
    for (Head& head : heads_) {
      pack(head.keys, kept);
      pack(head.values, kept);
    }
  }
  void read_keys(std::size_t, std::size_t head, std::size_t first, std::span<float> out) const {
    read(heads_[head].keys, first, out);
  }
  void read_values(std::size_t, std::size_t head, std::size_t first, std::span<float> out) const {
    read(heads_[head].values, first, out);
  }

 private:
  using Rows = std::vector<std::vector<float>>;
  struct Head {
    Rows keys;
    Rows values;
  };

  static void pack(Rows& rows, std::span<const lethe::Slot> kept) {
    for (std::size_t i = 0; i < kept.size(); ++i) rows[i] = rows[kept[i]];
    rows.resize(kept.size());
  }
  static void read(const Rows& rows, std::size_t first, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); i += rows[first].size()) {
      const std::vector<float>& row = rows[first + i / rows[first].size()];
      std::copy(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  std::array<Head, heads.kv_heads> heads_;
};

/// A scorer and what it is shown.
template <class Scorer>
class Sequence {
 public:
  explicit Sequence(const typename Scorer::Config& config)
      : scorer_(config, shape), scratch_(shape.slots) {}

  void step(lethe::Position position) {
    if (positions_.size() == shape.slots) drop();
    positions_.push_back(position);
    cache_.append(source_);
    for (std::size_t group = 0; group < shape.groups; ++group) {
      std::vector<float> mass(positions_.size());
      for (float& entry : mass) entry = source_.probability();
      scorer_.record(0, group, 0, 0, mass);
    }
    if constexpr (lethe::QueryReadingScorer<Scorer>) {
      scorer_.record_query(0, position, channels(source_, query_heads * heads.key_dimension));
    }
    scorer_.advance(1);
  }

  void fold_scores() {
    for (std::size_t group = 0; group < shape.groups; ++group) {
      if constexpr (lethe::detail::ReadsCache<Scorer>) scorer_.read(cache_, 0, group, positions_);
      for (const float score : scorer_.score(0, group, positions_, scratch_)) {
        if (!lethe::is_finite(score)) std::exit(EXIT_FAILURE);
        fold(std::bit_cast<std::uint32_t>(score));
      }
      if constexpr (lethe::WindowScorer<Scorer>) fold_window(group);
      if constexpr (lethe::GrowthScorer<Scorer>) fold(scorer_.growth(0, group));
    }
  }

 private:
  /// About half of the tokens.
  void drop() {
    std::vector<lethe::Slot> kept;
    for (lethe::Slot slot = 0; slot < positions_.size(); ++slot) {
      if (source_.next() % 2 == 0) kept.push_back(slot);
    }
    lethe::EvictionPlan plan{.tokens = static_cast<std::uint32_t>(positions_.size()), .kept = kept};
    while (plan.first_move < kept.size() && kept[plan.first_move] == plan.first_move) {
      ++plan.first_move;
    }
    for (std::size_t group = 0; group < shape.groups; ++group) scorer_.keep(plan, group);
    cache_.keep(kept);
    for (std::size_t i = 0; i < kept.size(); ++i) positions_[i] = positions_[kept[i]];
    positions_.resize(kept.size());
  }

  void fold_window(std::size_t group) {
    const lethe::WindowStatistics window = scorer_.window_statistics(0, group, positions_);
    fold(std::bit_cast<std::uint64_t>(window.entropy));
    fold(std::bit_cast<std::uint64_t>(window.variance));
    const lethe::DispersionBudget budget(
        {.total = 1, .entropy_temperature = 0.7, .variance_temperature = 1.9});
    fold(std::bit_cast<std::uint64_t>(budget.weight({.window = window})));
  }

  Scorer scorer_;
  Source source_{1};
  Cache cache_;
  std::vector<lethe::Position> positions_;
  std::vector<float> scratch_;
};

template <class Scorer>
void decode(const char* name, const typename Scorer::Config& config) {
  digest = empty_digest;
  Sequence<Scorer> sequence(config);
  for (lethe::Position position = 0; position < 200; ++position) {
    sequence.step(position);
    if (position % 8 == 7) sequence.fold_scores();
  }
  std::printf("%s %016llx\n", name, static_cast<unsigned long long>(digest));
}

template <class Rule>
void decode_rule(const char* name, const typename Rule::Config& rule) {
  decode<lethe::CacheScore<Rule>>(name, {.rule = rule, .heads = heads});
}

}  // namespace

int main() {
  // As a pruner does.
  const lethe::detail::KeepSubnormals exact;
  decode<lethe::GumbelMass>("keyformer", {.rise = 70});
  decode<lethe::WindowShift>("cake", {.window = 16, .heads = 2});
  Source source(2);
  const std::vector<float> matrix = channels(source, width * query_heads * heads.value_dimension);
  decode<lethe::Projected<lethe::WindowMass>>(
      "criticalkv",
      {.output = {.query_heads = query_heads, .width = width, .layers = {matrix}}, .heads = heads});
  const lethe::QueryHeads queries{.heads = query_heads,
                                  .frequencies = {1.0f, 0.3f, 0.1f, 0.03f, 0.01f}};
  decode_rule<lethe::ExpectedMass>("expected", {.queries = queries});
  decode_rule<lethe::Trigonometric>("triattention", {.queries = queries});
  decode_rule<lethe::Capacity>("capkv", {.queries = queries});
  decode<lethe::BlockQuota<lethe::CacheScore<lethe::TwoPaceMass>>>(
      "growpage", {.score = {.rule = {.queries = queries}, .heads = heads}});
  decode<lethe::Superseded<lethe::WindowMass>>("superseded",
                                               {.score = {.window = 8, .pool = 1},
                                                .keys = {.kv_heads = heads.kv_heads,
                                                         .head_dimension = heads.key_dimension,
                                                         .frequencies = queries.frequencies},
                                                .threshold = 0.1f,
                                                .first_layer_threshold = 0.3f,
                                                .penalty = 8.0f,
                                                .slow_share = 0.5f});
}
