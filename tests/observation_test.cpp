// The four ways of telling what attention did, against each other and against the definition.
#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.hpp"
#include "lethe/lethe.hpp"
#include "samples.hpp"
#include "toy_attention.hpp"

namespace {

using Lethe = lethe::policies::Lethe;
using SnapKV = lethe::policies::SnapKV;

constexpr std::size_t prompt = 9;

/// One step's attention in the forms that an engine may have.
struct StepRows {
  StepRows(const ToyAttention& toy, std::size_t first, std::size_t count_in, std::size_t groups)
      : base(first), count(count_in), columns(first + count_in) {
    probabilities.assign(toy.heads * count * columns, not_a_number);
    logits = probabilities;
    mass.assign(groups * count * columns, not_a_number);
    for (std::size_t q = 0; q < count; ++q) {
      for (std::size_t head = 0; head < toy.heads; ++head) fill_head(toy, head, q);
      for (std::size_t group = 0; group < groups; ++group) {
        const std::vector<double> row = toy.mass(base + q, group, groups);
        float* out = mass.data() + (group * count + q) * columns;
        for (std::size_t slot = 0; slot < row.size(); ++slot) {
          out[slot] = static_cast<float>(row[slot]);
        }
      }
    }
    for (std::size_t head = 0; head < toy.heads; ++head) {
      for (std::size_t q = 0; q < count; ++q) {
        lse.push_back(toy.lse(head, base + q));
        const float* row = toy.query(head, base + q);
        queries.insert(queries.end(), row, row + toy.dimension);
      }
    }
  }

  void fill_head(const ToyAttention& toy, std::size_t head, std::size_t q) {
    const double sum = toy.sum(head, base + q);
    const std::size_t row = (head * count + q) * columns;
    for (std::size_t slot = 0; slot <= base + q; ++slot) {
      logits[row + slot] = static_cast<float>(toy.raw(head, base + q, slot));
      const double probability = std::exp(toy.logit(head, base + q, slot)) / sum;
      probabilities[row + slot] = static_cast<float>(probability);
    }
  }

  std::size_t base;
  std::size_t count;
  std::size_t columns;
  std::vector<float> probabilities;
  std::vector<float> logits;
  std::vector<float> mass;
  std::vector<float> lse;
  std::vector<float> queries;
};

enum class Kind { probabilities, logits, logits_alone, mass, deferred, by_head };

lethe::Probabilities<float> probabilities_of(const ToyAttention& toy, const StepRows& rows) {
  return {.data = rows.probabilities.data(),
          .heads = toy.heads,
          .queries = rows.count,
          .columns = rows.columns};
}

template <class Pruner>
void observe_heads(Pruner& pruner, const ToyAttention& toy, const StepRows& rows,
                   std::size_t groups) {
  const std::size_t each = toy.heads / groups;
  for (std::size_t group = 0; group < groups; ++group) {
    lethe::Probabilities<float> seen = probabilities_of(toy, rows);
    seen.data += group * each * rows.count * rows.columns;
    seen.heads = each;
    seen.first_group = group;
    seen.group_count = 1;
    pruner.observe(0, seen);
  }
}

template <class Pruner>
void observe(Pruner& pruner, Kind kind, const ToyAttention& toy, const StepRows& rows,
             std::size_t groups) {
  const lethe::Logits<float> logits{.data = rows.logits.data(),
                                    .lse = kind == Kind::logits ? rows.lse.data() : nullptr,
                                    .heads = toy.heads,
                                    .queries = rows.count,
                                    .columns = rows.columns,
                                    .scale = toy.scale,
                                    .softcap = toy.softcap,
                                    .base = toy.base};
  switch (kind) {
    case Kind::probabilities:
      return pruner.observe(0, probabilities_of(toy, rows));
    case Kind::logits:
    case Kind::logits_alone:
      return pruner.observe(0, logits);
    case Kind::mass:
      return pruner.observe(0, lethe::Mass<float>{.data = rows.mass.data(),
                                                  .groups = groups,
                                                  .queries = rows.count,
                                                  .columns = rows.columns});
    case Kind::deferred:
      return pruner.observe(0, lethe::Queries<float>{.data = rows.queries.data(),
                                                     .lse = rows.lse.data(),
                                                     .heads = toy.heads,
                                                     .queries = rows.count,
                                                     .head_dimension = toy.dimension,
                                                     .scale = toy.scale,
                                                     .softcap = toy.softcap,
                                                     .base = toy.base});
    case Kind::by_head:
      return observe_heads(pruner, toy, rows, groups);
  }
}

/// A prompt in one step, then token by token; the scores at the end, as shares of the largest.
template <class Pruner>
std::vector<double> scores_after(Pruner pruner, Kind kind, const ToyAttention& toy,
                                 std::size_t groups) {
  std::vector<float> keys = toy.keys;
  lethe::ContiguousCache<float> cache(
      {{.keys = keys.data(),
        .heads = toy.kv_heads,
        .dimension = toy.dimension,
        .key_strides = {.token = toy.dimension, .head = toy.tokens * toy.dimension},
        .capacity = toy.tokens}});
  for (std::size_t token = 0; token < toy.tokens;) {
    const std::size_t step = token == 0 ? prompt : 1;
    CHECK(pruner.make_room(cache, step) == 0);
    cache.append(0, step);
    observe(pruner, kind, toy, StepRows(toy, token, step, groups), groups);
    pruner.commit();
    token += step;
  }
  pruner.flush(cache);
  const auto scores = pruner.scores(0);
  const double top = static_cast<double>(*std::max_element(scores.begin(), scores.end()));
  std::vector<double> shares;
  for (const float score : scores) shares.push_back(static_cast<double>(score) / top);
  return shares;
}

lethe::PrunerConfig config_of(const ToyAttention& toy, std::size_t groups) {
  return {.layers = 1,
          .capacity = 64,
          .groups = groups,
          .deferred = {.queries = 16,
                       .heads = toy.heads,
                       .kv_heads = toy.kv_heads,
                       .head_dimension = toy.dimension}};
}

void require_close(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE_THAT(found[i], WithinAbs(expected[i], 1e-6 + 2e-4 * expected[i]));
  }
}

constexpr Kind kinds[] = {Kind::probabilities, Kind::logits,   Kind::logits_alone,
                          Kind::mass,          Kind::deferred, Kind::by_head};

}  // namespace

TEST_CASE("RASR's scores are the definition's, however attention is told") {
  Samples samples(111);
  for (const float softcap : {0.0f, 4.0f}) {
    ToyAttention toy{.tokens = 40, .softcap = softcap, .base = lethe::LogBase::two};
    toy.draw(samples);
    std::vector<double> expected(40, 0.0);
    for (std::size_t token = 0; token < 40; ++token) {
      const std::vector<double> mass = toy.mass(token, 0, 1);
      for (double& score : expected) score *= static_cast<double>(0.9f);
      for (std::size_t slot = 0; slot <= token; ++slot) expected[slot] += mass[slot];
    }
    const double top = *std::max_element(expected.begin(), expected.end());
    for (double& score : expected) score /= top;
    for (const std::size_t groups : {1u, 2u, 6u}) {
      for (const Kind kind : kinds) {
        const Lethe pruner(config_of(toy, groups), {.decay = 0.9f, .first_threshold = 0});
        require_close(scores_after(pruner, kind, toy, groups), expected);
      }
    }
  }
}

TEST_CASE("SnapKV's scores are the window's, however attention is told") {
  Samples samples(112);
  ToyAttention toy{.tokens = 40};
  toy.draw(samples);
  std::vector<double> expected(40, 0.0);
  for (std::size_t token = 35; token < 40; ++token) {
    const std::vector<double> mass = toy.mass(token, 0, 1);
    for (std::size_t slot = 0; slot <= token; ++slot) expected[slot] += mass[slot];
  }
  const double top = *std::max_element(expected.begin(), expected.end());
  for (double& score : expected) score /= top;
  for (const Kind kind : kinds) {
    const SnapKV pruner(config_of(toy, 1), {.window = 5, .pool = 1});
    require_close(scores_after(pruner, kind, toy, 1), expected);
  }
}

TEST_CASE("several calls for one layer never decay") {
  Samples samples(113);
  ToyAttention toy{.tokens = 20};
  toy.draw(samples);
  const auto last_share = [&](int calls) {
    lethe::PrunerConfig config = config_of(toy, 1);
    config.deferred = {};
    Lethe pruner(config, {.decay = 0.5f, .first_threshold = 0});
    float key = 0;
    lethe::ContiguousCache<float> cache(
        {{.keys = &key, .dimension = 1, .key_strides = {.token = 1}, .capacity = 64}});
    for (int step = 0; step < 2; ++step) {
      pruner.make_room(cache, 1);
      cache.append(0, 1);
      const std::vector<float> row(2, 1.0f / static_cast<float>(calls));
      for (int call = 0; call < calls; ++call) {
        pruner.observe(0, lethe::Probabilities<float>{.data = row.data(), .columns = 2});
      }
      pruner.commit();
    }
    return static_cast<double>(pruner.scores(0)[0] / pruner.scores(0)[1]);
  };
  CHECK_THAT(last_share(1), WithinAbs(1.5, 1e-6));
  CHECK_THAT(last_share(4), WithinAbs(1.5, 1e-6));
}

TEST_CASE("queries of other heads or channels than the settings say are refused") {
  SnapKV pruner({.layers = 1,
                 .capacity = 64,
                 .deferred = {.queries = 2, .heads = 2, .kv_heads = 1, .head_dimension = 2}});
  std::vector<float> key(128);
  lethe::ContiguousCache<float> cache(
      {{.keys = key.data(), .dimension = 2, .key_strides = {.token = 2}, .capacity = 64}});
  const std::vector<float> row(8, 0.5f);
  lethe::Queries<float> seen{
      .data = row.data(), .lse = row.data(), .heads = 2, .queries = 1, .head_dimension = 2};
  pruner.make_room(cache, 1);
  seen.heads = 1;
  CHECK_THROWS_WITH(pruner.observe(0, seen), Catch::Contains("Queries::heads = 1"));
  seen.heads = 2;
  seen.head_dimension = 4;
  CHECK_THROWS_WITH(pruner.observe(0, seen), Catch::Contains("Queries::head_dimension = 4"));
  seen.head_dimension = 2;
  CHECK_NOTHROW(pruner.observe(0, seen));
}
