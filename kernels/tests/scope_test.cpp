// Rounds in which heads, layers or whole sequences keep sets of their own, beside the host library.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"
#include "host_state.hpp"
#include "lethe/gpu/round_sets.cuh"
#include "plan_cases.hpp"

namespace {

using gpu_test::DecodeScope;
using gpu_test::HostState;
using gpu_test::PlanCase;
using gpu_test::Planned;
using lethe::Scope;

template <class Observation>
void decodes_as_the_host(std::uint64_t seed, Observation kind, float decay,
                         const DecodeScope& kept) {
  INFO("groups " << kept.groups << ", seed " << seed);
  gpu_test::Decode<Observation, gpu_test::Emulation> decode(seed, kind, {decay, kept});
  CHECK(decode.run(200) == "");
  CHECK(decode.pruned > 5);
}

// Three, for the sum of two would not show in which order it is made.
constexpr std::uint32_t layers = 3;
constexpr std::uint32_t slots = 3;
const std::vector<std::int32_t> batch{2, -1, 0, 9};

/// A state whose (layer, slot) hold random tokens: settings of one round, and for each kept set
/// what a plan of it alone would be given.
struct RandomState {
  RandomState(Samples& samples, std::uint32_t groups, Scope scope)
      : settings(random_settings(samples, scope)),
        host({.layers = layers,
              .slots = slots,
              .capacity = static_cast<std::uint32_t>(settings.capacity),
              .groups = groups,
              .scope = scope}),
        decisions(std::size_t{layers} * slots * host.state.shape.sets()) {
    for (std::uint32_t slot = 0; slot < slots; ++slot) fill_slot(samples, slot);
  }

  static lethe::gpu::PlanSettings random_settings(Samples& samples, Scope scope) {
    lethe::gpu::PlanSettings settings = gpu_test::random_case(samples, 300).settings;
    settings.score = {};
    if (scope != Scope::layer) settings.max_lost_mass = 1.0f;
    if (scope == Scope::sequence) settings.ordered = true;
    return settings;
  }

  void fill_slot(Samples& samples, std::uint32_t slot) {
    const bool whole = host.state.shape.scope == Scope::sequence;
    host.state.pinned[slot] = static_cast<lethe::Position>(samples.below(8));
    std::size_t tokens = random_length(samples);
    std::vector<lethe::Position> positions = random_positions(samples, tokens);
    lethe::gpu::Cadence cadence = random_cadence(samples);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      if (!whole && layer != 0) {
        tokens = random_length(samples);
        cadence = random_cadence(samples);
      }
      const std::size_t number = host.state.number(layer, slot);
      host.state.lengths[number] = static_cast<std::uint32_t>(tokens);
      host.state.cadences[number] = cadence;
      for (std::uint32_t set = 0; set < host.state.shape.sets(); ++set) {
        if (!whole) positions = random_positions(samples, tokens);
        std::copy(positions.begin(), positions.end(), host.state.position_row(number, set));
      }
      for (std::uint32_t group = 0; group < host.state.shape.groups; ++group) {
        const std::vector<float> scores = gpu_test::random_scores(samples, tokens);
        std::copy(scores.begin(), scores.end(), host.state.score_row(number, group));
      }
    }
  }

  [[nodiscard]] std::size_t random_length(Samples& samples) const {
    const std::size_t kind = samples.below(8);
    const std::size_t capacity = settings.capacity;
    return kind < 2 ? capacity : (kind == 2 ? 1 : 1 + samples.below(capacity));
  }
  [[nodiscard]] std::vector<lethe::Position> random_positions(Samples& samples,
                                                              std::size_t tokens) const {
    return gpu_test::random_positions(samples, tokens, settings.ordered);
  }
  [[nodiscard]] lethe::gpu::Cadence random_cadence(Samples& samples) const {
    return {static_cast<std::uint32_t>(samples.below(settings.capacity)),
            static_cast<std::uint32_t>(samples.below(80))};
  }

  /// A set's own case, its scores apart.
  [[nodiscard]] PlanCase case_of(std::uint32_t layer, std::uint32_t slot,
                                 std::uint32_t set = 0) const {
    const std::size_t number = host.state.number(layer, slot);
    const auto positions = host.positions(layer, slot, set);
    return {.settings = settings,
            .positions = {positions.begin(), positions.end()},
            .pinned = host.state.pinned[slot],
            .cadence = host.state.cadences[number],
            .layer = layer,
            .layers = layers};
  }

  /// A layer's scores, the groups from first on summed.
  [[nodiscard]] std::vector<float> scores(std::uint32_t layer, std::uint32_t slot,
                                          std::uint32_t first, std::uint32_t end) const {
    const auto own = host.scores(layer, slot, first);
    std::vector<float> sum(own.begin(), own.end());
    for (std::uint32_t group = first + 1; group < end; ++group) {
      const auto more = host.scores(layer, slot, group);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += more[i];
    }
    return sum;
  }

  [[nodiscard]] lethe::gpu::Round round() {
    return {.state = host.state,
            .batch = gpu_test::batch_of(batch),
            .settings = settings,
            .plans = host.plans,
            .decisions = decisions.data()};
  }

  /// What the round has decided.
  [[nodiscard]] Planned planned(std::uint32_t layer, std::uint32_t slot,
                                std::uint32_t set = 0) const {
    const std::size_t number = host.state.number(layer, slot);
    const std::size_t plan = number * host.state.shape.sets() + set;
    Planned planned{.plan = decisions[plan]};
    const lethe::Slot* kept = host.plans.kept + plan * host.state.shape.capacity;
    const bool pruned = planned.plan.outcome == lethe::Outcome::pruned ||
                        planned.plan.outcome == lethe::Outcome::guarded;
    if (pruned) planned.kept.assign(kept, kept + host.plans.counts[plan]);
    CHECK(host.plans.counts[plan] == planned.plan.kept);
    CHECK(host.plans.first_moves[plan] == planned.plan.first_move);
    CHECK(host.state.cadences[number].threshold == planned.plan.cadence.threshold);
    CHECK(host.state.cadences[number].since_round == planned.plan.cadence.since_round);
    return planned;
  }

  lethe::gpu::PlanSettings settings;
  HostState host;
  std::vector<lethe::gpu::LayerPlan> decisions;
};

/// How often a round came to each outcome, and the first difference.
struct Tally {
  void compare(const Planned& host, const Planned& device, const std::string& where) {
    ++outcomes[static_cast<std::size_t>(host.plan.outcome)];
    const char* field = gpu_test::difference(host, device);
    if (field != nullptr && fault.empty()) fault = where + ": " + field;
  }
  [[nodiscard]] std::size_t of(lethe::Outcome outcome) const {
    return outcomes[static_cast<std::size_t>(outcome)];
  }

  std::array<std::size_t, 8> outcomes{};
  std::string fault{};
};

void compare_heads(Samples& samples, std::uint32_t heads, Tally& tally) {
  RandomState given(samples, heads, Scope::head);
  std::vector<std::vector<Planned>> expected;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    for (const std::uint32_t slot : {0u, 2u}) {
      std::vector<PlanCase> cases;
      for (std::uint32_t head = 0; head < heads; ++head) {
        cases.push_back(given.case_of(layer, slot, head));
        cases.back().scores = given.scores(layer, slot, head, head + 1);
      }
      expected.push_back(gpu_test::plan_heads(cases));
    }
  }
  const std::uint32_t other = given.host.plans.counts[heads];
  gpu_test::EmulatedRound<32>(samples.word()).plan(given.round());
  CHECK(given.host.plans.counts[heads] == other);
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    for (const std::uint32_t slot : {0u, 2u}) {
      for (std::uint32_t head = 0; head < heads; ++head) {
        tally.compare(expected[layer * 2 + slot / 2][head], given.planned(layer, slot, head),
                      "layer " + std::to_string(layer) + " head " + std::to_string(head));
      }
    }
  }
}

void compare_layers(Samples& samples, std::uint32_t groups, Tally& tally) {
  RandomState given(samples, groups, Scope::layer);
  std::vector<Planned> expected;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    PlanCase own = given.case_of(layer, 2);
    own.scores = given.scores(layer, 2, 0, groups);
    expected.push_back(gpu_test::HostRound(own).run());
  }
  gpu_test::EmulatedRound<32>(samples.word()).plan(given.round());
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    tally.compare(expected[layer], given.planned(layer, 2), "layer " + std::to_string(layer));
  }
}

/// One layer's trigger may be out of reach: the others' suffice.
void compare_sequences(Samples& samples, std::uint32_t groups, Tally& tally) {
  RandomState given(samples, groups, Scope::sequence);
  PlanCase whole = given.case_of(0, 2);
  whole.scores.assign(whole.positions.size(), 0.0f);
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    const std::vector<float> scores = given.scores(layer, 2, 0, groups);
    lethe::detail::add_share(whole.scores, scores, lethe::summarise(scores).sum);
  }
  const Planned expected = gpu_test::HostRound(whole).run();
  const bool odd = samples.below(2) == 0;
  if (odd) given.host.state.cadences[2].threshold = 0x7FFFFFFFu;
  gpu_test::EmulatedRound<32>(samples.word()).plan(given.round());
  for (std::uint32_t layer = odd ? 1 : 0; layer < layers; ++layer) {
    tally.compare(expected, given.planned(layer, 2), "layer " + std::to_string(layer));
  }
  if (!odd) return;
  CHECK(given.planned(0, 2).kept == expected.kept);
  CHECK(given.host.state.cadences[2].threshold == 0x7FFFFFFFu);
}

template <class Compare>
Tally compare_many(std::uint64_t seed, std::size_t cases, Compare&& compare) {
  Samples samples(seed);
  Tally tally;
  for (std::size_t i = 0; i < cases && tally.fault.empty(); ++i) {
    compare(samples, static_cast<std::uint32_t>(1 + samples.below(4)), tally);
    if (!tally.fault.empty()) tally.fault += " in case " + std::to_string(i);
  }
  return tally;
}

void check_outcomes(const Tally& tally) {
  CHECK(tally.fault == "");
  CHECK(tally.of(lethe::Outcome::pruned) > 200);
  CHECK(tally.of(lethe::Outcome::spread_out) > 20);
  CHECK(tally.of(lethe::Outcome::nothing_to_drop) > 20);
  CHECK(tally.of(lethe::Outcome::non_finite) > 20);
}

}  // namespace

TEST_CASE("heads that keep tokens of their own keep as many as the neediest, as on the host") {
  check_outcomes(compare_many(1, 400, compare_heads));
}

TEST_CASE("a layer's groups are summed, as on the host") {
  check_outcomes(compare_many(2, 1200, compare_layers));
}

TEST_CASE("the layers of a sequence keep what their normalised sum says, as on the host") {
  check_outcomes(compare_many(3, 1200, compare_sequences));
}

TEST_CASE("a score that is no number in one head leaves the layer alone, and is told") {
  Samples samples(4);
  RandomState given(samples, 3, Scope::head);
  given.settings.step_tokens = given.settings.capacity;
  for (std::uint32_t head = 0; head < 3; ++head) {
    const auto scores = given.host.scores(1, 2, head);
    std::fill(scores.begin(), scores.end(), 1.0f);
  }
  given.host.scores(1, 2, 1)[0] = not_a_number;
  gpu_test::EmulatedRound<32>(5).plan(given.round());
  for (std::uint32_t head = 0; head < 3; ++head) {
    const Planned planned = given.planned(1, 2, head);
    CHECK(planned.plan.outcome == lethe::Outcome::non_finite);
    CHECK(planned.plan.kept == planned.plan.tokens);
    CHECK(planned.plan.summary.finite == (head != 1));
  }
}

TEST_CASE("a sequence whose layers differ in length is left alone, and told as busy") {
  Samples samples(6);
  RandomState given(samples, 2, Scope::sequence);
  const auto capacity = static_cast<std::uint32_t>(given.settings.capacity);
  for (const std::uint32_t layer : {0u, 2u}) {
    given.host.state.lengths[given.host.state.number(layer, 2)] = capacity;
  }
  given.host.state.lengths[given.host.state.number(1, 2)] = capacity - 1;
  const lethe::gpu::Cadence before = given.host.state.cadences[2];
  gpu_test::EmulatedRound<32>(7).plan(given.round());
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    CHECK(given.planned(layer, 2).plan.outcome == lethe::Outcome::busy);
    CHECK(given.planned(layer, 2).plan.kept == (layer == 1 ? capacity - 1 : capacity));
  }
  CHECK(given.host.state.cadences[2].since_round == before.since_round);
}

TEST_CASE("a batch decodes as the host library does, a layer's score rows apart") {
  decodes_as_the_host(1, lethe::Probabilities<float>{}, 0.98f, {2, Scope::layer});
  decodes_as_the_host(2, lethe::Logits<float>{.scale = 0.7f}, 0.5f, {3, Scope::layer});
}

TEST_CASE("a batch decodes as the host library does, each head keeping its own tokens") {
  decodes_as_the_host(3, lethe::Probabilities<float>{}, 0.98f, {2, Scope::head});
  decodes_as_the_host(4, lethe::Probabilities<lethe::BFloat16>{}, 0.5f, {6, Scope::head});
  decodes_as_the_host(5, lethe::Logits<float>{.scale = 0.7f}, 0.98f, {3, Scope::head});
  decodes_as_the_host(6, lethe::Probabilities<float>{}, 1.0f, {1, Scope::head});
}

TEST_CASE("a batch decodes as the host library does, all layers keeping the same tokens") {
  decodes_as_the_host(7, lethe::Probabilities<float>{}, 0.98f, {1, Scope::sequence});
  decodes_as_the_host(8, lethe::Probabilities<float>{}, 0.9f, {3, Scope::sequence});
  decodes_as_the_host(9, lethe::Logits<lethe::BFloat16>{.base = lethe::LogBase::two}, 0.9f,
                      {2, Scope::sequence});
}

TEST_CASE("the mass sink of a group adds to that group's scores alone") {
  const HostState host(
      {.layers = 1, .slots = 2, .capacity = 64, .groups = 3, .scope = Scope::head});
  const lethe::gpu::QueryWeight weights[] = {{1.0f, 1.0f}, {2.0f, 1.0f}};
  const std::vector<std::int32_t> rows{-1, 1};
  lethe::gpu::start_block(lethe::gpu::HostBlock<32>(), host.state, gpu_test::batch_of(rows), 0, 1);
  lethe::gpu::append_block(lethe::gpu::HostBlock<32>(), host.state, gpu_test::batch_of(rows), 5, 1);
  const lethe::gpu::MassSink sink({host.state, gpu_test::batch_of(rows), 0, weights}, 1, 1, 2);
  REQUIRE(sink.tokens() == 5);
  sink(4, 0, 0.25f);
  for (std::uint32_t group = 0; group < 3; ++group) {
    CHECK(host.scores(0, 1, group)[4] == (group == 2 ? 0.5f : 0.0f));
    CHECK(host.positions(0, 1, group)[4] == 4);
  }
}

TEST_CASE("groups and scopes that cannot be are refused by name before any launch") {
  std::size_t bytes = 0;
  lethe::gpu::State state;
  const auto remedy = [](const lethe::gpu::Status& status) { return std::string(status.remedy); };
  const lethe::gpu::StateShape none{.layers = 1, .slots = 1, .capacity = 8, .groups = 0};
  CHECK(remedy(lethe::gpu::place_state(none, nullptr, bytes, state)).starts_with("groups"));

  const HostState host({.layers = 1, .slots = 2, .capacity = 64, .groups = 2});
  const HostState flat({1, 2, 64});
  lethe::gpu::Round round{.state = host.state, .batch = {nullptr, 2}, .plans = host.plans};
  round.settings.capacity = 64;
  CHECK(lethe::gpu::check(round).ok());
  round.plans = flat.plans;
  CHECK(remedy(lethe::gpu::check(round)).starts_with("plans: give place_plans the groups"));
  const float scores = 0;
  round.scores = &scores;
  CHECK(lethe::gpu::check(round).ok());
  round.settings.score.rule = lethe::gpu::ScoreRule::random;
  CHECK(remedy(lethe::gpu::check(round)).starts_with("score:"));
  round.settings.score = {};
  round.state.shape.scope = Scope::head;
  round.settings.max_lost_mass = 0.5f;
  CHECK(remedy(lethe::gpu::check(round)).starts_with("max_lost_mass"));
  round.settings.max_lost_mass = 1.0f;
  round.first_set = 1u << 29;
  CHECK(remedy(lethe::gpu::check(round)).starts_with("first_set"));

  const lethe::gpu::QueryWeight weight{};
  const lethe::gpu::ObservedLayer layer{host.state, {nullptr, 2}, 0, &weight};
  using Seen = lethe::gpu::BatchObservation<lethe::Probabilities<float>>;
  CHECK(lethe::gpu::check(layer, Seen{{.data = &scores, .heads = 4, .columns = 1}}).ok());
  CHECK(remedy(lethe::gpu::check(layer, Seen{{.data = &scores, .heads = 3, .columns = 1}}))
            .starts_with("heads"));
  const Seen half{{.data = &scores, .heads = 4, .columns = 1, .first_group = 1}};
  CHECK(remedy(lethe::gpu::check(layer, half)).starts_with("group_count"));
}
