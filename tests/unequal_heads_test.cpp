// Heads of a layer that hold different counts: a pruner with FlatHeads against vectors and sorts,
// decision by decision, over rounds, steps of several tokens, drafts, and saved state.
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "lethe/budget/flat_heads.hpp"
#include "lethe/policies/heads.hpp"
#include "lethe/pruner.hpp"
#include "lethe/score/window.hpp"
#include "samples.hpp"

namespace {

using lethe::Position;
using Pruner = lethe::Pruner<lethe::WindowMass, lethe::FlatHeads<lethe::UniformBudget>>;

constexpr std::size_t layers = 2, heads = 3, query_heads = 6, window = 5;

/// Positions in vectors, one for each head.
struct Cache {
  std::vector<std::vector<std::vector<Position>>> rows{2, std::vector<std::vector<Position>>(3)};

  [[nodiscard]] std::size_t layers() const { return rows.size(); }
  [[nodiscard]] std::size_t heads(std::size_t layer) const { return rows[layer].size(); }
  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const {
    return rows[layer][head].size();
  }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    std::size_t longest = 0;
    for (const auto& head : rows[layer]) longest = std::max(longest, head.size());
    return longest;
  }
  [[nodiscard]] std::size_t all(std::size_t layer) const {
    std::size_t sum = 0;
    for (const auto& head : rows[layer]) sum += head.size();
    return sum;
  }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      std::vector<Position>& head = rows[plan.layer].at(plan.head);
      REQUIRE(plan.tokens == head.size());
      std::vector<Position> packed;
      for (const lethe::Slot slot : plan.kept) packed.push_back(head.at(slot));
      head = packed;
    }
  }
};
static_assert(lethe::UnequalHeadsCache<Cache>);

struct Setting {
  std::size_t head_capacity = 0;
  std::size_t budget = 16;
  float safeguard = 0.2f;
  std::size_t draft_tokens = 0;
  std::size_t total_capacity = 0;
  std::size_t capacity = 24;
  std::size_t pool = 1;
  std::size_t first_tokens = 2;
  std::size_t recent_tokens = 4;
};

lethe::PrunerConfig config_of(const Setting& setting) {
  return {.layers = layers,
          .capacity = setting.capacity,
          .head_capacity = setting.head_capacity,
          .total_capacity = setting.total_capacity,
          .groups = heads,
          .scope = lethe::Scope::head,
          .draft_tokens = setting.draft_tokens};
}

Pruner make_pruner(const Setting& setting) {
  return Pruner(
      config_of(setting),
      {.retention = {.first_tokens = setting.first_tokens, .recent_tokens = setting.recent_tokens}},
      {.window = window, .pool = setting.pool},
      {.budget = {.budget = setting.budget}, .safeguard = setting.safeguard});
}

/// A token of one head and what the last queries paid it, newest last.
struct Token {
  Position position = 0;
  std::vector<double> paid{};

  [[nodiscard]] double score() const { return std::accumulate(paid.begin(), paid.end(), 0.0); }
};
using Head = std::vector<Token>;

bool is_protected(const Setting& setting, const Head& head, std::size_t i) {
  return head[i].position < setting.first_tokens || i + setting.recent_tokens >= head.size();
}

/// The best of a token and its neighbours.
double pooled(const Head& head, std::size_t i, std::size_t pool) {
  double best = 0;
  for (std::size_t j = i - std::min(i, pool / 2); j < head.size() && j <= i + pool / 2; ++j)
    best = std::max(best, head[j].score());
  return best;
}

/// A token that may go.
struct Candidate {
  bool safe = false;
  double score = 0;
  Position position = 0;
  std::size_t head = 0;
  std::size_t slot = 0;
};

bool is_better(const Candidate& a, const Candidate& b) {
  if (a.safe != b.safe) return a.safe;
  if (a.score != b.score) return a.score > b.score;
  return a.position != b.position ? a.position < b.position : a.head < b.head;
}

std::vector<Candidate> candidates_of(const Setting& setting, const Head& head, std::size_t index,
                                     std::size_t mean) {
  std::vector<Candidate> own;
  for (std::size_t i = 0; i < head.size(); ++i) {
    if (!is_protected(setting, head, i)) {
      own.push_back({.score = pooled(head, i, setting.pool),
                     .position = head[i].position,
                     .head = index,
                     .slot = i});
    }
  }
  std::sort(own.begin(), own.end(), is_better);
  const auto protected_tokens = static_cast<double>(head.size() - own.size());
  const double safe =
      static_cast<double>(setting.safeguard) * (static_cast<double>(mean) - protected_tokens) +
      1e-6;
  for (std::size_t i = 0; i < own.size(); ++i) own[i].safe = static_cast<double>(i + 1) <= safe;
  return own;
}

/// One layer of the model world.
struct Layer {
  std::vector<Head> of = std::vector<Head>(heads);

  [[nodiscard]] std::size_t all() const {
    std::size_t sum = 0;
    for (const Head& head : of) sum += head.size();
    return sum;
  }

  /// Keeps `mean` tokens a head on average, none more than `most`.
  void prune(const Setting& setting, std::size_t mean, std::size_t most) {
    std::vector<Candidate> list;
    std::vector<std::vector<bool>> stays;
    std::vector<std::size_t> counts;
    std::size_t open = mean * heads;
    for (std::size_t h = 0; h < heads; ++h) {
      const std::vector<Candidate> own = candidates_of(setting, of[h], h, mean);
      list.insert(list.end(), own.begin(), own.end());
      stays.emplace_back(of[h].size(), false);
      for (std::size_t i = 0; i < of[h].size(); ++i) stays[h][i] = is_protected(setting, of[h], i);
      counts.push_back(of[h].size() - own.size());
      open -= counts[h];
    }
    std::sort(list.begin(), list.end(), is_better);
    for (const Candidate& each : list) {
      if (open == 0 || counts[each.head] == most) continue;
      stays[each.head][each.slot] = true;
      ++counts[each.head];
      --open;
    }
    for (std::size_t h = 0; h < heads; ++h) {
      Head kept;
      for (std::size_t i = 0; i < of[h].size(); ++i) {
        if (stays[h][i]) kept.push_back(of[h][i]);
      }
      of[h] = kept;
    }
  }
};

/// What a query pays the tokens of one head, in steps that add without rounding; heads differ in
/// how much there is to pay, and how widely it is spread.
float draw_mass(Samples& samples, std::size_t head) {
  if (samples.below(3) == 0) return 0;
  return 0x1p-9f * static_cast<float>(samples.below(head == 1 ? 6 : 40));
}

/// A pruner and the model world side by side.
class World {
 public:
  World(const Setting& given, std::uint64_t seed, Pruner deciding)
      : setting(given), pruner(std::move(deciding)), samples(seed) {}
  World(const Setting& given, std::uint64_t seed) : World(given, seed, make_pruner(given)) {}

  void step(std::size_t tokens, std::size_t accepted) {
    prune(tokens);
    require_same();
    for (std::size_t layer = 0; layer < layers; ++layer) attend(layer, tokens, accepted);
    std::vector<std::uint32_t> stands(accepted);
    std::iota(stands.begin(), stands.end(), 0u);
    if (accepted == tokens) {
      pruner.commit();
    } else {
      pruner.commit(stands);
    }
    seen += static_cast<Position>(accepted);
    require_same();
  }

  void require_same() const {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      REQUIRE(pruner.size(layer) == (world[layer].all() + heads - 1) / heads);
      for (std::size_t head = 0; head < heads; ++head) {
        std::vector<Position> expected;
        for (const Token& token : world[layer].of[head]) expected.push_back(token.position);
        const auto found = pruner.positions(layer, head);
        CAPTURE(layer, head, seen);
        REQUIRE(std::vector<Position>(found.begin(), found.end()) == expected);
        REQUIRE(cache.rows[layer][head] == expected);
      }
    }
  }

  Setting setting;
  Pruner pruner;
  Cache cache{};
  Samples samples;
  std::vector<Layer> world = std::vector<Layer>(layers);
  Position seen = 0;
  std::size_t rounds = 0;
  std::size_t most_apart = 0;

 private:
  [[nodiscard]] std::size_t head_slots() const {
    return setting.head_capacity != 0 ? setting.head_capacity : setting.capacity * heads;
  }

  void prune(std::size_t tokens) {
    const std::size_t slack = setting.capacity / 8;
    const std::size_t most = head_slots() - std::max(tokens, head_slots() / 8);
    for (Layer& layer : world) {
      std::size_t longest = 0;
      std::size_t cut = 0;
      for (const Head& head : layer.of) {
        longest = std::max(longest, head.size());
        cut += std::min(head.size(), most);
      }
      const bool overlong = longest + tokens > head_slots();
      if (layer.all() + tokens * heads <= setting.capacity * heads && !overlong) continue;
      const std::size_t budget = setting.budget != 0 ? setting.budget : setting.capacity;
      std::size_t mean = std::min({budget, setting.capacity - slack, setting.capacity - tokens});
      if (overlong) mean = std::min(mean, cut / heads);
      layer.prune(setting, mean, most);
      ++rounds;
    }
    pruner.make_room(cache, tokens);
    for (const auto& layer : cache.rows) {
      for (const auto& head : layer) {
        REQUIRE(head.size() + tokens <= head_slots());
        most_apart = std::max(most_apart, head.size() - std::min(head.size(), layer[0].size()));
      }
    }
    for (std::size_t layer = 0; layer < layers; ++layer)
      REQUIRE(cache.all(layer) + tokens * heads <= setting.capacity * heads);
  }

  /// Attention rows are as wide as the longest head; beyond a head's own tokens lies nothing to
  /// read.
  void attend(std::size_t layer, std::size_t tokens, std::size_t accepted) {
    const std::size_t columns = cache.size(layer) + tokens;
    std::vector<float> rows(query_heads * tokens * columns, not_a_number);
    std::vector<Head>& own = world[layer].of;
    for (std::size_t q = 0; q < tokens; ++q) {
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t before = cache.size(layer, h);
        if (q < accepted) own[h].push_back({.position = seen + static_cast<Position>(q)});
        for (std::size_t i = 0; i < before + q + 1; ++i) {
          const float one = draw_mass(samples, h);
          const float other = draw_mass(samples, h);
          rows[((2 * h) * tokens + q) * columns + i] = one;
          rows[((2 * h + 1) * tokens + q) * columns + i] = other;
          if (q < accepted) pay(own[h][i], static_cast<double>(one) + static_cast<double>(other));
        }
      }
    }
    pruner.observe(
        layer,
        lethe::Probabilities<float>{
            .data = rows.data(), .heads = query_heads, .queries = tokens, .columns = columns});
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t q = 0; q < accepted; ++q)
        cache.rows[layer][h].push_back(seen + static_cast<Position>(q));
    }
  }

  static void pay(Token& token, double mass) {
    token.paid.push_back(mass);
    if (token.paid.size() > window) token.paid.erase(token.paid.begin());
  }
};

}  // namespace

TEST_CASE("heads keep the layer's best tokens, however many each, within the layer's bound") {
  const std::vector<Setting> settings{{},
                                      {.budget = 0},
                                      {.safeguard = 0.0f},
                                      {.safeguard = 1.0f},
                                      {.head_capacity = 30},
                                      {.head_capacity = 24, .budget = 0},
                                      {.head_capacity = 27, .budget = 0, .safeguard = 0.0f}};
  std::uint64_t seed = 0;
  for (const Setting& setting : settings) {
    CAPTURE(setting.head_capacity, setting.budget, setting.safeguard);
    World world(setting, ++seed);
    for (int step = 0; step < 150; ++step) {
      const std::size_t tokens = step % 9 == 0 ? 1 + world.samples.below(6) : 1;
      world.step(tokens, tokens);
    }
    CHECK(world.rounds > 10);
    const bool may_differ = setting.head_capacity == 0 || setting.head_capacity == 30;
    CHECK((world.most_apart > 3) == (setting.safeguard < 1.0f && may_differ));
  }
}

TEST_CASE("AdaKV keeps the best pooled mass of the last queries over a layer's heads") {
  const Setting setting{.safeguard = 0.3f, .pool = 3, .first_tokens = 0, .recent_tokens = window};
  World world(setting, 19,
              lethe::policies::AdaKV(
                  config_of(setting),
                  {.budget = setting.budget, .window = window, .pool = 3, .safeguard = 0.3f}));
  for (int step = 0; step < 200; ++step) world.step(1, 1);
  CHECK(world.rounds > 10);
  CHECK(world.most_apart > 3);
}

TEST_CASE("of drafted tokens only the accepted leave a trace in heads of any length") {
  World world({.draft_tokens = 5}, 20);
  for (int step = 0; step < 150; ++step) {
    const std::size_t tokens = 1 + world.samples.below(5);
    world.step(tokens, world.samples.below(tokens + 1));
  }
  CHECK(world.rounds > 10);
  CHECK(world.most_apart > 3);
}

TEST_CASE("a restored pruner and a copy decide as the one they come from") {
  World world({}, 21);
  for (int step = 0; step < 60; ++step) world.step(1, 1);
  Pruner restored = make_pruner(world.setting);
  restored.restore(world.pruner.save());
  World copy = world;
  copy.pruner = restored;
  for (int step = 0; step < 60; ++step) copy.step(1, 1);
  for (int step = 0; step < 60; ++step) world.step(1, 1);
  CHECK(copy.cache.rows == world.cache.rows);
  Pruner other = make_pruner({.head_capacity = 40});
  CHECK_THROWS_AS(other.restore(world.pruner.save()), std::invalid_argument);
  CHECK_THROWS_WITH(other.restore(world.pruner.save()), Catch::Contains("head_capacity"));
}

TEST_CASE("a layer scored anew goes by age, in every slot of its longest head") {
  World world({}, 22);
  for (int step = 0; step < 60; ++step) world.step(1, 1);
  world.pruner.forget_scores(0);
  for (std::size_t head = 0; head < heads; ++head) {
    for (const float score : world.pruner.scores(0, head)) CHECK(score == 0.0f);
  }
}

TEST_CASE("a cap over all layers counts the mean of a layer's heads") {
  Pruner pruner = make_pruner({.budget = 0, .total_capacity = 30});
  Cache cache;
  Samples samples(23);
  for (Position position = 0; position < 100; ++position) {
    pruner.make_room(cache, 1);
    std::size_t rows = 0;
    for (std::size_t layer = 0; layer < layers; ++layer) rows += cache.all(layer) + heads;
    REQUIRE(rows <= 30 * heads);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      for (auto& head : cache.rows[layer]) head.push_back(position);
      std::vector<float> mass(heads * cache.size(layer));
      for (std::size_t i = 0; i < mass.size(); ++i)
        mass[i] = draw_mass(samples, i / cache.size(layer));
      pruner.observe(
          layer,
          lethe::Mass<float>{.data = mass.data(), .groups = heads, .columns = cache.size(layer)});
    }
    pruner.commit();
  }
  CHECK(cache.all(0) + cache.all(1) > 24 * heads);
}

TEST_CASE("what unequal heads cannot be combined with is refused by name") {
  const auto refusal = [](const lethe::PrunerConfig& config) { return Pruner(config, {}, {}, {}); };
  lethe::PrunerConfig config = config_of({});
  config.scope = lethe::Scope::layer;
  CHECK_THROWS_WITH(refusal(config), Catch::Contains("scope = layer") && Catch::Contains("head"));
  config = config_of({});
  config.max_lost_mass = 0.5f;
  CHECK_THROWS_WITH(refusal(config), Catch::Contains("max_lost_mass = 0.5"));
  config = config_of({});
  config.deferred = {.queries = 8, .heads = heads, .kv_heads = heads, .head_dimension = 4};
  CHECK_THROWS_WITH(refusal(config), Catch::Contains("deferred.queries = 8"));
  CHECK_THROWS_WITH(refusal(config_of({.head_capacity = 23})),
                    Catch::Contains("head_capacity = 23"));
  config = config_of({.head_capacity = 64});
  using Equal = lethe::Pruner<lethe::WindowMass, lethe::UniformBudget>;
  CHECK_THROWS_WITH(Equal(config, {}, {}, {}), Catch::Contains("head_capacity = 64"));
  CHECK_THROWS_AS(Equal(config, {}, {}, {}), std::invalid_argument);
  struct Classes : Cache {
    std::vector<std::size_t> classes{16, 32};
    std::span<const std::size_t> count_classes(std::size_t) const { return classes; }
  } cache;
  Pruner pruner = make_pruner({});
  CHECK_THROWS_WITH(pruner.make_room(cache, 1), Catch::Contains("count_classes"));
}

TEST_CASE("a cache whose heads are not as long as was committed is refused") {
  World world({}, 24);
  for (int step = 0; step < 60; ++step) world.step(1, 1);
  std::size_t shortest = 0;
  for (std::size_t head = 0; head < heads; ++head) {
    if (world.cache.size(0, head) < world.cache.size(0, shortest)) shortest = head;
  }
  world.cache.rows[0][shortest].pop_back();
  CHECK_THROWS_WITH(world.pruner.make_room(world.cache, 1), Catch::Contains("cache.size"));
}
