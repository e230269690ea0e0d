#include "lethe/policies.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <vector>

#include "catch.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
namespace policies = lethe::policies;

constexpr std::size_t capacity = 40;
constexpr lethe::PrunerConfig config{.layers = 1, .capacity = capacity, .slack_ratio = 0.2f};
constexpr std::size_t kept_at_bound = 32;

/// What a naive policy knows when a round is due: the cached tokens, and every query's mass.
struct History {
  std::vector<Position> tokens{};
  std::vector<std::vector<double>> mass{};
  std::size_t pinned = 0;

  /// Mass that a token received from query t.
  double received(std::size_t t, Position token) const {
    return token < mass[t].size() ? mass[t][token] : 0.0;
  }
  double decayed(double decay, Position token) const {
    double score = 0;
    for (std::size_t t = 0; t < mass.size(); ++t) score = decay * score + received(t, token);
    return score;
  }
};

using Score = std::function<double(const History&, std::size_t)>;

/// Protected tokens first, then the best scores, ties to the lower position.
std::vector<Position> keep_best(const History& past, std::size_t count, std::size_t first_tokens,
                                std::size_t recent, const Score& score) {
  const std::size_t tokens = past.tokens.size();
  struct Candidate {
    bool held;
    double score;
    Position token;
  };
  std::vector<Candidate> order;
  const std::size_t prefix = std::max(first_tokens, past.pinned);
  std::size_t held_prefix = 0;
  for (const Position token : past.tokens) held_prefix += token < prefix ? 1 : 0;
  const std::size_t newest = std::min(recent, count - held_prefix);
  for (std::size_t i = 0; i < tokens; ++i) {
    const bool held = past.tokens[i] < prefix || i + newest >= tokens;
    order.push_back({held, score(past, i), past.tokens[i]});
  }
  std::sort(order.begin(), order.end(), [](const Candidate& a, const Candidate& b) {
    if (a.held != b.held) return a.held;
    if (!a.held && a.score != b.score) return a.score > b.score;
    return a.token < b.token;
  });
  std::vector<Position> kept;
  for (std::size_t i = 0; i < count; ++i) kept.push_back(order[i].token);
  std::sort(kept.begin(), kept.end());
  return kept;
}

struct Counter {
  std::size_t tokens = 0;
  std::size_t layers() const { return 1; }
  std::size_t size(std::size_t) const { return tokens; }
  void apply(std::span<const lethe::EvictionPlan> plans) { tokens = plans[0].kept.size(); }
};

using NaiveRound = std::function<std::vector<Position>(const History&)>;

/// One token's attention over what is cached: dyadic, so that sums are exact in any order.
std::vector<float> draw_mass(Samples& samples, std::size_t tokens) {
  std::vector<float> row(tokens);
  for (float& mass : row) {
    const float u = std::floor(samples.uniform() * 1024) / 1024;
    mass = std::floor(u * u * u * 4096) / 4096;
  }
  return row;
}

/// Decodes 400 tokens one by one, and asks the naive round whenever the bound is met.
template <class Pruner>
void require_policy(Pruner pruner, const NaiveRound& naive, std::size_t pinned = 0) {
  Samples samples(121);
  Counter cache;
  History past{.pinned = pinned};
  pruner.pin(pinned);
  std::size_t rounds = 0;
  for (Position token = 0; token < 400; ++token) {
    if (past.tokens.size() == capacity) {
      past.tokens = naive(past);
      ++rounds;
    }
    pruner.make_room(cache, 1);
    const auto positions = pruner.positions(0);
    REQUIRE(std::vector<Position>(positions.begin(), positions.end()) == past.tokens);
    ++cache.tokens;
    past.tokens.push_back(token);
    const std::vector<float> row = draw_mass(samples, cache.tokens);
    std::vector<double>& mass = past.mass.emplace_back(token + 1, 0.0);
    for (std::size_t slot = 0; slot < row.size(); ++slot) {
      mass[past.tokens[slot]] = static_cast<double>(row[slot]);
    }
    pruner.observe(0, lethe::Probabilities<float>{.data = row.data(), .columns = row.size()});
    pruner.commit();
  }
  CHECK(rounds > 15);
}

double last_mass(const History& past, std::size_t i) {
  return past.received(past.mass.size() - 1, past.tokens[i]);
}

double window_maximum(const History& past, std::size_t i, std::size_t window, std::size_t pool) {
  const std::size_t reach = pool / 2;
  double best = 0;
  for (std::size_t j = i - std::min(i, reach); j < std::min(past.tokens.size(), i + reach + 1);
       ++j) {
    double sum = 0;
    for (std::size_t t = past.mass.size() - window; t < past.mass.size(); ++t) {
      sum += past.received(t, past.tokens[j]);
    }
    best = std::max(best, sum);
  }
  return best;
}

double random_draw(const History& past, std::size_t i, std::uint64_t seed) {
  using lethe::detail::mix;
  const std::uint64_t stream = mix(mix(mix(seed ^ past.mass.size()) ^ 0) ^ 0);
  return static_cast<double>(mix(stream ^ past.tokens[i]) >> 40);
}

/// Algorithm 1 with its sort, then the cap.
std::vector<Position> lethe_round(const History& past, double decay, double ratio,
                                  std::size_t segments) {
  const std::size_t tokens = past.tokens.size();
  const std::size_t recent = static_cast<std::size_t>(std::ceil(0.3 * static_cast<double>(tokens)));
  const Score score = [=](const History& h, std::size_t i) {
    return h.decayed(decay, h.tokens[i]);
  };
  std::vector<std::pair<double, Position>> sorted;
  for (std::size_t i = 0; i < tokens; ++i) sorted.emplace_back(score(past, i), past.tokens[i]);
  std::sort(sorted.begin(), sorted.end(), [](auto a, auto b) { return a.first > b.first; });
  std::size_t breakpoint = tokens;
  for (std::size_t s = segments; s-- > 1;) {
    const std::size_t head = (s * tokens + segments - 1) / segments;
    if (head < tokens && sorted[head].first < sorted[0].first / ratio) breakpoint = head;
  }
  std::size_t wanted = 0;
  for (std::size_t rank = 0; rank < tokens; ++rank) {
    const Position token = sorted[rank].second;
    const bool held =
        token < std::max<std::size_t>(4, past.pinned) || token >= past.tokens[tokens - recent];
    wanted += rank < breakpoint || held ? 1 : 0;
  }
  return keep_best(past, std::min(wanted, kept_at_bound), 4, recent, score);
}

}  // namespace

TEST_CASE("Lethe keeps salient, first and recent tokens up to the bound") {
  for (const std::size_t pinned : {0u, 10u}) {
    for (const float ratio : {4.0f, 400.0f}) {
      require_policy(
          policies::Lethe(
              config,
              {.decay = 0.875f, .sparsity_ratio = ratio, .segments = 16, .first_threshold = 0}),
          [=](const History& past) {
            return lethe_round(past, 0.875, static_cast<double>(ratio), 16);
          },
          pinned);
    }
  }
}

TEST_CASE("H2O keeps the heaviest half and the recent half") {
  const Score cumulative = [](const History& past, std::size_t i) {
    return past.decayed(1.0, past.tokens[i]);
  };
  for (const std::size_t pinned : {0u, 10u}) {
    require_policy(
        policies::H2O(config),
        [&](const History& past) {
          return keep_best(past, kept_at_bound, 0, kept_at_bound / 2, cumulative);
        },
        pinned);
    require_policy(
        policies::H2O(config, {.budget = 21}),
        [&](const History& past) { return keep_best(past, 21, 0, 10, cumulative); }, pinned);
  }
}

TEST_CASE("TOVA keeps what the last query looked at") {
  for (const std::size_t pinned : {0u, 10u}) {
    require_policy(
        policies::TOVA(config, {.budget = 20}),
        [](const History& past) { return keep_best(past, 20, 0, 0, last_mass); }, pinned);
  }
}

TEST_CASE("SnapKV keeps its window and what the window looked at, neighbours included") {
  const Score pooled = [](const History& past, std::size_t i) {
    return window_maximum(past, i, 6, 5);
  };
  for (const std::size_t pinned : {0u, 10u}) {
    require_policy(
        policies::SnapKV(config, {.budget = 24, .window = 6, .pool = 5}),
        [&](const History& past) { return keep_best(past, 24, 0, 6, pooled); }, pinned);
  }
}

TEST_CASE("StreamingLLM keeps the first tokens and the recent ones") {
  const Score none = [](const History&, std::size_t) { return 0.0; };
  for (const std::size_t pinned : {0u, 10u}) {
    require_policy(
        policies::StreamingLLM(config, {.budget = 18, .first_tokens = 3}),
        [&](const History& past) { return keep_best(past, 18, 3, 400, none); }, pinned);
  }
}

TEST_CASE("RandomAttention keeps recents and a seeded draw") {
  for (const std::size_t pinned : {0u, 10u}) {
    require_policy(
        policies::RandomAttention(config, {.budget = 25, .recent_tokens = 5, .seed = 77}),
        [](const History& past) {
          return keep_best(past, 25, 0, 5,
                           [](const History& h, std::size_t i) { return random_draw(h, i, 77); });
        },
        pinned);
  }
}

TEST_CASE("G-KV keeps its window and the best standings, fading from round to round") {
  for (const std::size_t pinned : {0u, 10u}) {
    std::map<Position, float> remembered;
    require_policy(
        policies::GKV(config, {.budget = 24, .decay = 0.75f, .window = 6, .pool = 5}),
        [&](const History& past) {
          std::vector<float> standing;
          for (std::size_t i = 0; i < past.tokens.size(); ++i) {
            standing.push_back(static_cast<float>(window_maximum(past, i, 6, 5)));
          }
          const float share = 1.0f / *std::max_element(standing.begin(), standing.end());
          for (std::size_t i = 0; i < past.tokens.size(); ++i) {
            float& before = remembered[past.tokens[i]];
            before = std::max(standing[i] * share, before * 0.75f);
          }
          return keep_best(past, 24, 0, 6, [&](const History& h, std::size_t i) {
            return static_cast<double>(remembered[h.tokens[i]]);
          });
        },
        pinned);
  }
}

TEST_CASE("InertiaKV keeps what was looked at of late, and its buffer") {
  const Score recent = [](const History& past, std::size_t i) {
    return past.decayed(0.875, past.tokens[i]);
  };
  require_policy(policies::InertiaKV(config, {.budget = 24, .decay = 0.875f, .recent_tokens = 6}),
                 [&](const History& past) { return keep_best(past, 24, 0, 6, recent); });
}

TEST_CASE("mass over age keeps what was looked at most while it was there") {
  const Score per_age = [](const History& past, std::size_t i) {
    const double age = static_cast<double>(past.mass.size() - past.tokens[i]);
    return static_cast<double>(static_cast<float>(past.decayed(1.0, past.tokens[i]) * (1.0 / age)));
  };
  require_policy(policies::MassPerAge(config, {.budget = 24}),
                 [&](const History& past) { return keep_best(past, 24, 0, 12, per_age); });
}

TEST_CASE("supersession remembers for as long as its cache is, unless it is told") {
  const lethe::KeyShape keys{.kv_heads = 1, .head_dimension = 4, .frequencies = {}};
  const policies::Supersession from_capacity(config, {.keys = keys});
  const std::vector<std::byte> blob = from_capacity.save();
  const auto told = static_cast<float>(1.0 - 1.0 / (0.7 * capacity));
  policies::Supersession same(config, {.keys = keys, .decay = told});
  CHECK_NOTHROW(same.restore(blob));
  policies::Supersession shorter(config, {.keys = keys, .decay = 0.9f});
  CHECK_THROWS(shorter.restore(blob));
}

TEST_CASE("supersession's settings reach its score") {
  const lethe::KeyShape keys{.kv_heads = 1, .head_dimension = 4, .frequencies = {}};
  const auto score_of = [&](const lethe::SupersessionConfig& settings) {
    return lethe::parts_of(settings, config).score;
  };
  const auto usual = score_of({.keys = keys});
  CHECK(usual.threshold == 0.7f);
  CHECK(usual.first_layer_threshold == 0.9f);
  CHECK(usual.penalty == 12.0f);
  CHECK(usual.slow_share == 0.5f);
  const auto told = score_of({.keys = keys,
                              .threshold = 0.6f,
                              .first_layer_threshold = 0.8f,
                              .penalty = 4.0f,
                              .slow_share = 0.25f});
  CHECK(told.threshold == 0.6f);
  CHECK(told.first_layer_threshold == 0.8f);
  CHECK(told.penalty == 4.0f);
  CHECK(told.slow_share == 0.25f);
}

TEST_CASE("supersession must be told how keys lie") {
  CHECK_THROWS_WITH(policies::Supersession(config), Catch::Contains("keys.kv_heads"));
}
