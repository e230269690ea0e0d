// What kvpress scores and keeps of a recorded layer of SmolLM2, by
// scripts/golden/kvpress_scores.py. Where this library departs from it, a test says so.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/pyramid.hpp"
#include "lethe/policies.hpp"
#include "lethe/policies/attention.hpp"
#include "lethe/policies/keys.hpp"
#include "lethe/policies/queries.hpp"
#include "lethe/policies/values.hpp"
#include "naive/given.hpp"
#include "row_cache.hpp"

namespace {

namespace policies = lethe::policies;
using Positions = std::vector<lethe::Position>;

constexpr std::size_t tokens = 64, kv_heads = 2, heads = 6, channels = 32;
constexpr std::size_t window = 16, short_window = 8, pool = 5, sinks = 4, partition = 12, chunk = 8;
const lethe::HeadShape shape{.kv_heads = kv_heads, .key_dimension = channels};

struct Tensor {
  std::vector<std::size_t> sizes;
  std::vector<double> values;

  [[nodiscard]] std::vector<double> row(std::size_t index) const {
    const auto width = static_cast<std::ptrdiff_t>(values.size() / sizes[0]);
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(index) * width;
    return {begin, begin + width};
  }
};

using Tensors = std::map<std::string, Tensor>;

Tensors read(const std::string& name) {
  std::ifstream file(std::string(LETHE_GOLDEN_FOLDER "/kvpress_") + name + ".txt");
  std::string line;
  REQUIRE(std::getline(file, line));
  Tensors tensors;
  std::size_t rank = 0;
  double step = 0;
  for (std::string record; file >> record >> step >> rank;) {
    Tensor& tensor = tensors[record];
    tensor.sizes.resize(rank);
    std::size_t count = 1;
    for (std::size_t& size : tensor.sizes) file >> size, count *= size;
    tensor.values.resize(count);
    for (double& value : tensor.values) file >> value, value *= step != 0 ? step : 1.0;
    REQUIRE(file);
  }
  return tensors;
}

const Tensors& expected() {
  static const Tensors all = read("scores");
  return all;
}

std::vector<double> scores_of(const std::string& method, std::size_t head) {
  return expected().at(method).row(head);
}

Positions kept_of(const std::string& method, std::size_t count, std::size_t head) {
  const std::vector<double> row = expected().at(method + "_" + std::to_string(count)).row(head);
  return Positions(row.begin(), row.end());
}

/// The recorded keys and values, in one layer.
RowCache recorded_rows() {
  static const Tensors rows = read("rows");
  RowCache cache(1, kv_heads);
  const auto key = rows.at("keys").values.begin();
  const auto value = rows.at("values").values.begin();
  for (std::size_t head = 0; head < kv_heads; ++head) {
    for (std::size_t token = 0; token < tokens; ++token) {
      const auto begin = static_cast<std::ptrdiff_t>((head * tokens + token) * channels);
      const auto end = begin + static_cast<std::ptrdiff_t>(channels);
      cache.append(0, head,
                   {static_cast<lethe::Position>(token), std::vector<float>(key + begin, key + end),
                    std::vector<float>(value + begin, value + end)});
    }
  }
  return cache;
}

/// The recorded attention, [head][query][token]; none to tokens from `end` on.
std::vector<float> recorded_attention(std::size_t end = tokens) {
  static const Tensors recorded = read("attention");
  std::vector<float> attention(heads * tokens * tokens, 0.0f);
  auto value = recorded.at("attention").values.begin();
  for (std::size_t row = 0; row < heads * tokens; ++row) {
    for (std::size_t token = 0; token <= row % tokens; ++token, ++value) {
      if (token < end) attention[row * tokens + token] = static_cast<float>(*value);
    }
  }
  return attention;
}

const Tensors& recorded_queries() {
  static const Tensors recorded = read("queries");
  return recorded;
}

std::vector<float> floats_of(const Tensor& tensor) {
  return {tensor.values.begin(), tensor.values.end()};
}

/// Queries as they enter attention, [query][head][channel].
struct QueryRows {
  std::vector<float> rows;
};

/// The recorded queries, turned by their positions; channels c and c + pairs turn together.
QueryRows turned_queries() {
  const std::vector<double>& values = recorded_queries().at("queries").values;
  const std::vector<double>& frequencies = recorded_queries().at("frequencies").values;
  const std::size_t pairs = frequencies.size();
  QueryRows turned{std::vector<float>(values.size())};
  for (std::size_t i = 0; i < heads * tokens; ++i) {
    const std::size_t head = i / tokens, query = i % tokens;
    for (std::size_t c = 0; c < pairs; ++c) {
      const double angle = static_cast<double>(query) * frequencies[c];
      const double x = values[i * channels + c], y = values[i * channels + pairs + c];
      float* row = turned.rows.data() + (query * heads + head) * channels;
      row[c] = static_cast<float>(x * std::cos(angle) - y * std::sin(angle));
      row[pairs + c] = static_cast<float>(x * std::sin(angle) + y * std::cos(angle));
    }
  }
  return turned;
}

lethe::QueryHeads query_heads() {
  return {.heads = heads,
          .frequencies = floats_of(recorded_queries().at("frequencies")),
          .pairs = lethe::RotaryPairs::halves};
}

/// The recorded piece of the output projection.
lethe::OutputProjection recorded_output() {
  static const std::vector<float> matrix = floats_of(recorded_queries().at("output_projection"));
  return {.query_heads = heads, .width = matrix.size() / heads / channels, .layers = {matrix}};
}

lethe::PrunerConfig by_head() {
  return {.layers = 1, .capacity = tokens, .groups = kv_heads, .scope = lethe::Scope::head};
}

lethe::Probabilities<float> view_of(const std::vector<float>& attention) {
  return {.data = attention.data(), .heads = heads, .queries = tokens, .columns = tokens};
}

lethe::Queries<float> view_of(const QueryRows& queries) {
  return {.data = queries.rows.data(),
          .heads = heads,
          .queries = tokens,
          .head_dimension = channels,
          .head_stride = channels,
          .query_stride = heads * channels};
}

/// A pruner that has seen the whole layer in one step, and its cache.
template <class Pruner>
struct Seen {
  template <class Observed = std::vector<float>>
  explicit Seen(const Pruner& policy, const Observed& observed = recorded_attention())
      : pruner(policy), cache(1, kv_heads) {
    pruner.make_room(cache, tokens);
    cache = recorded_rows();
    pruner.observe(0, view_of(observed));
    pruner.commit();
  }

  Positions kept(std::size_t head) {
    pruner.make_room(cache, 1);
    return cache.positions(0, head);
  }

  Pruner pruner;
  RowCache cache;
};

/// The same positions, but where kvpress's own scores leave it open.
void check_kept(const Positions& found, const Positions& wanted,
                const std::vector<double>& scores) {
  REQUIRE(found.size() == wanted.size());
  double cut = std::numeric_limits<double>::max();
  for (const lethe::Position position : wanted) cut = std::min(cut, scores[position]);
  Positions open;
  std::set_symmetric_difference(found.begin(), found.end(), wanted.begin(), wanted.end(),
                                std::back_inserter(open));
  for (const lethe::Position position : open) {
    CAPTURE(position);
    CHECK(scores[position] == cut);
  }
}

using Make = std::function<double(double)>;

/// Scores of tokens from `begin` to `end` are what `make` makes of kvpress's.
template <class Row>
void check_scores(const Row& found, const std::vector<double>& wanted, const Make& make,
                  std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    CAPTURE(i);
    const double score = make(wanted[i]);
    CHECK_THAT(static_cast<double>(found[i]), WithinAbs(score, 2e-6 * (1 + std::abs(score))));
  }
}

/// One head's scores from its keys and values.
template <class Rule>
std::vector<float> rule_scores(const typename Rule::Config& config, std::size_t head) {
  lethe::CacheScore<Rule> scorer({.rule = config, .heads = shape},
                                 {.layers = 1, .groups = kv_heads, .slots = tokens});
  const Positions positions = ascending_positions(tokens);
  scorer.read(recorded_rows(), 0, head, positions);
  return naive::scores_of(scorer, positions, 0, head);
}

/// Both heads, at each budget: make(budget) is a policy.
template <class MakePolicy, class Observed = std::vector<float>>
void check_policy(const std::string& method, const MakePolicy& make,
                  const Observed& observed = recorded_attention()) {
  for (const std::size_t count : {48u, 32u, 24u}) {
    for (std::size_t head = 0; head < kv_heads; ++head) {
      CAPTURE(method, count, head);
      Seen seen(make(count), observed);
      const Positions wanted = kept_of(method, count, head);
      REQUIRE(wanted.size() == count);
      const bool has_scores = expected().count(method) != 0;
      // Without scores nothing is left open.
      check_kept(seen.kept(head), wanted,
                 has_scores ? scores_of(method, head) : std::vector<double>(tokens, not_a_number));
    }
  }
}

/// One head's scores from its keys and values and from all queries.
std::vector<float> expected_scores(const lethe::ExpectedMassConfig& config, std::size_t head) {
  lethe::CacheScore<lethe::ExpectedMass> scorer({.rule = config, .heads = shape},
                                                {.layers = 1, .groups = kv_heads, .slots = tokens});
  const QueryRows queries = turned_queries();
  for (std::size_t query = 0; query < tokens; ++query) {
    scorer.record_query(
        0, static_cast<lethe::Position>(query),
        std::span(queries.rows).subspan(query * heads * channels, heads * channels));
  }
  const Positions positions = ascending_positions(tokens);
  scorer.read(recorded_rows(), 0, head, positions);
  return naive::scores_of(scorer, positions, 0, head);
}

/// One head's scores from its values and the attention, which it is told in sums over query heads.
template <class Scorer>
std::vector<float> projected_scores(typename lethe::Projected<Scorer>::Config config,
                                    std::size_t head, const std::vector<float>& attention) {
  config.output = recorded_output();
  config.heads = shape;
  lethe::Projected<Scorer> scorer(config, {.layers = 1, .groups = kv_heads, .slots = tokens});
  const std::size_t shared = heads / kv_heads;
  for (std::size_t query = 0; query < tokens; ++query) {
    std::vector<float> mass(tokens, 0.0f);
    for (std::size_t i = 0; i < shared * tokens; ++i) {
      const std::size_t query_head = head * shared + i / tokens, token = i % tokens;
      mass[token] += attention[(query_head * tokens + query) * tokens + token];
    }
    scorer.record(0, head, static_cast<std::int64_t>(query), 0, mass);
  }
  scorer.advance(tokens);
  const Positions positions = ascending_positions(tokens);
  scorer.read(recorded_rows(), 0, head, positions);
  return naive::scores_of(scorer, positions, 0, head);
}

/// CriticalKV with as many tokens in the first stage as kvpress's has beside the window.
policies::CriticalKV critical(std::size_t budget, std::size_t last, float epsilon) {
  const std::size_t first = std::max(budget / 2, last) - last;
  // Rounded down, it is that many whatever the share is rounded to.
  const float share = (static_cast<float>(first) + 0.5f) / static_cast<float>(budget - last);
  return policies::CriticalKV(by_head(), {.heads = shape,
                                          .output = recorded_output(),
                                          .budget = budget,
                                          .window = last,
                                          .pool = pool,
                                          .pooling = lethe::Pooling::mean,
                                          .epsilon = epsilon,
                                          .first_share = share});
}

/// The scores of the second stage, and what both stages keep.
void check_critical(const std::string& method, std::size_t last, float epsilon) {
  const std::vector<float> cut_off = recorded_attention(tokens - last);
  const double summed = double(last) * heads / kv_heads;
  for (std::size_t head = 0; head < kv_heads; ++head) {
    const std::vector<float> found = projected_scores<lethe::WindowMass>(
        {.score = {.window = last, .pool = pool, .pooling = lethe::Pooling::mean},
         .epsilon = epsilon * static_cast<float>(summed)},
        head, cut_off);
    check_scores(
        found, scores_of(method + "_second", head), [=](double score) { return score * summed; }, 0,
        tokens - last);
  }
  check_policy(
      method, [=](std::size_t budget) { return critical(budget, last, epsilon); }, cut_off);
}

}  // namespace

TEST_CASE("Knorm is kvpress's but for the longest key, taken from all") {
  for (std::size_t head = 0; head < kv_heads; ++head) {
    const std::vector<double> wanted = scores_of("knorm", head);
    const double longest = -*std::min_element(wanted.begin(), wanted.end());
    check_scores(
        rule_scores<lethe::KeyNorm>({}, head), wanted,
        [=](double score) { return score + longest; }, 0, tokens);
  }
  check_policy("knorm", [](std::size_t budget) {
    return policies::Knorm(by_head(), {.heads = shape, .budget = budget, .recent_tokens = 0});
  });
}

TEST_CASE("KeyDiff is kvpress's plus 1") {
  for (std::size_t head = 0; head < kv_heads; ++head) {
    check_scores(
        rule_scores<lethe::KeyDifference>({}, head), scores_of("keydiff", head),
        [](double score) { return score + 1; }, 0, tokens);
  }
  check_policy("keydiff", [](std::size_t budget) {
    return policies::KeyDiff(by_head(), {.heads = shape, .budget = budget, .recent_tokens = 0});
  });
}

TEST_CASE("CUR is kvpress's; first tokens are protected by the policy, not by their score") {
  for (std::size_t head = 0; head < kv_heads; ++head) {
    check_scores(
        rule_scores<lethe::Leverage>({}, head), scores_of("cur", head),
        [](double score) { return score; }, sinks, tokens);
  }
  check_policy("cur", [](std::size_t budget) {
    return policies::CUR(by_head(), {.heads = shape, .budget = budget, .recent_tokens = 0});
  });
}

TEST_CASE("LagKV ranks each partition as kvpress does; the last is protected, not scored") {
  for (std::size_t head = 0; head < kv_heads; ++head) {
    check_scores(
        rule_scores<lethe::Lag>({.sinks = sinks, .partition = partition}, head),
        scores_of("lagkv", head), [](double score) { return score; }, sinks, tokens - partition);
  }
  check_policy("lagkv", [](std::size_t budget) {
    return policies::LagKV(by_head(), {.heads = shape, .budget = budget, .partition = partition});
  });
}

// kvpress cuts the window off before it pools; here pooling reaches into it.
TEST_CASE("SnapKV is kvpress's, summed and not averaged, but beside the window") {
  const auto make = [](std::size_t budget) {
    return policies::SnapKV(
        by_head(),
        {.budget = budget, .window = window, .pool = pool, .pooling = lethe::Pooling::mean});
  };
  const double summed = double(window) * heads / kv_heads;
  const auto scaled = [=](double score) { return score * summed; };
  Seen whole(make(32));
  Seen cut_off(make(32), recorded_attention(tokens - window));
  for (std::size_t head = 0; head < kv_heads; ++head) {
    const std::vector<double> wanted = scores_of("snapkv", head);
    check_scores(whole.pruner.scores(0, head), wanted, scaled, 0, tokens - window - pool / 2);
    check_scores(cut_off.pruner.scores(0, head), wanted, scaled, 0, tokens - window);
  }
  check_policy("snapkv", make, recorded_attention(tokens - window));
}

// kvpress keeps the newest token whatever the last query paid to it.
TEST_CASE("TOVA is kvpress's, summed over heads and not averaged") {
  const lethe::PrunerConfig config{.layers = 1, .capacity = tokens};
  Seen seen(policies::TOVA(config, {.budget = 32}));
  check_scores(
      seen.pruner.scores(0), scores_of("tova", 0), [](double score) { return score * heads; }, 0,
      tokens - 1);
  check_policy("tova", [&](std::size_t budget) {
    return lethe::Pruner<lethe::WindowMass, lethe::UniformBudget>(
        config, {.retention = {.first_tokens = 0, .recent_tokens = 1}}, {.window = 1, .pool = 1},
        {.budget = budget});
  });
}

// The policy of that name protects recent tokens too, which kvpress does not.
TEST_CASE("mass over age is kvpress's observed attention, summed over heads and not averaged") {
  const auto make = [](std::size_t budget) {
    return lethe::Pruner<lethe::PerAge<lethe::Rasr>, lethe::UniformBudget>(
        by_head(), {.retention = {.first_tokens = 0}}, {.decay = 1.0f}, {.budget = budget});
  };
  Seen seen(make(32));
  for (std::size_t head = 0; head < kv_heads; ++head) {
    check_scores(
        seen.pruner.scores(0, head), scores_of("mass_per_age", head),
        [](double score) { return score * heads / kv_heads; }, 0, tokens);
  }
  check_policy("mass_per_age", make);
}

TEST_CASE("StreamingLLM keeps what kvpress keeps") {
  check_policy("streaming", [](std::size_t budget) {
    return policies::StreamingLLM(by_head(), {.budget = budget, .first_tokens = sinks});
  });
}

// The policy of that name pools by the maximum, as SnapKV's authors do; kvpress by the mean.
TEST_CASE("ChunkKV keeps the chunks that kvpress keeps") {
  check_policy(
      "chunkkv",
      [](std::size_t budget) {
        return lethe::Pruner<lethe::Blocks<lethe::WindowMass>, lethe::WholeBlocks>(
            {.layers = 1, .capacity = tokens, .groups = kv_heads},
            {.retention = {.first_tokens = 0, .recent_tokens = window}},
            {.score = {.window = window, .pool = pool, .pooling = lethe::Pooling::mean},
             .block = chunk,
             .recent_tokens = window},
            {.block = chunk, .budget = budget});
      },
      recorded_attention(tokens - window));
}

// The prompt's queries are all queries so far, since the whole layer comes in one step. kvpress
// puts the sinks above all heads' tokens; here they are level with the best of their own head.
TEST_CASE("ExpectedAttention is kvpress's beside the sinks") {
  constexpr float epsilon = 0.01f;
  for (std::size_t head = 0; head < kv_heads; ++head) {
    const std::vector<float> found = expected_scores(
        {.queries = query_heads(), .first_tokens = sinks, .epsilon = epsilon}, head);
    check_scores(
        found, scores_of("expected_attention", head), [](double score) { return score; }, sinks,
        tokens);
    CHECK(found[0] == *std::max_element(found.begin() + sinks, found.end()));
  }
  const auto make = [](std::size_t budget) {
    return policies::ExpectedAttention(by_head(), {.heads = shape,
                                                   .queries = query_heads(),
                                                   .budget = budget,
                                                   .first_tokens = sinks,
                                                   .recent_tokens = 0,
                                                   .epsilon = epsilon});
  };
  check_policy("expected_attention", make, turned_queries());
}

TEST_CASE("sizes of projected values are kvpress's") {
  const std::vector<float> unread(heads * tokens * tokens, 0.0f);
  for (std::size_t head = 0; head < kv_heads; ++head) {
    check_scores(
        projected_scores<lethe::NoScore>({.epsilon = 1.0f}, head, unread),
        scores_of("projected_norms", head), [](double score) { return score; }, 0, tokens);
  }
}

// kvpress's first stage has half of the whole budget, and the window takes its places first; here
// it has half of what the window leaves, unless told otherwise, as it is in these tests.
TEST_CASE("CriticalKV is kvpress's, summed and not averaged, but beside the window") {
  check_critical("criticalkv", window, 1e-4f);
  // Where the first stage and epsilon each change what stays.
  check_critical("criticalkv_short", short_window, 3e-2f);
}

// There the window is part of what a layer's share holds; here, as in the authors' program, it
// comes on top, and the top layer's share is a whole number.
TEST_CASE("PyramidKV's budgets are kvpress's beside the window") {
  const Tensor& rows = expected().at("pyramidkv");
  for (std::size_t i = 0; i < rows.sizes[0]; ++i) {
    std::vector<std::size_t> row;
    for (const double value : rows.row(i)) row.push_back(static_cast<std::size_t>(value));
    const lethe::PyramidBudget pyramid(
        {.budget = row[4] + row[0], .beta = row[1], .window = row[0]});
    const std::vector<float> scores(row[3], 0.0f);
    const std::size_t found =
        pyramid.budget({.layer = row[5], .layers = row[2], .scores = scores}).tokens;
    CAPTURE(i, row[5]);
    CHECK(found == row[6] + row[0]);
  }
}
