// Tensor-parallel ranks whose plans agree, beside a host pruner that sees all heads.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"
#include "lethe/gpu/policies.hpp"
#include "rank_cases.hpp"

namespace {

using gpu_test::AgreedCounts;
using gpu_test::DecodeScope;
using gpu_test::SummedScores;
using lethe::Scope;

template <class Agreement, class Observation>
void decode_as_one(std::uint64_t seed, Observation kind, float decay, const DecodeScope& kept) {
  INFO("groups " << kept.groups << ", seed " << seed);
  using Ranks = gpu_test::Ranks<gpu_test::Emulation, Agreement>;
  gpu_test::Decode<Observation, Ranks> decode(seed, kind, {decay, kept});
  CHECK(decode.run(250) == "");
  CHECK(decode.pruned > 5);
}

using Refusal = std::pair<std::string, std::string>;

/// The call that refused, and the field that it named.
Refusal refusal(const lethe::gpu::Status& status) {
  const std::string remedy = status.remedy;
  return {status.call, remedy.substr(0, remedy.find(':'))};
}

/// What a round by these settings, and either half of it, is refused for.
struct Refusals {
  explicit Refusals(lethe::gpu::PlanSettings settings, const float* scores = nullptr) {
    settings.capacity = 64;
    const gpu_test::HostState host(lethe::gpu::shape_for(settings, 1, 1, 64));
    const lethe::gpu::Round given{.state = host.state,
                                  .batch = {nullptr, 1},
                                  .settings = settings,
                                  .plans = host.plans,
                                  .scores = scores};
    round = refusal(lethe::gpu::check(given));
    counts = refusal(lethe::gpu::check_half("plan_counts", given));
    kept = refusal(lethe::gpu::check_half("plan_kept", given));
  }

  Refusal round{};
  Refusal counts{};
  Refusal kept{};
};

}  // namespace

TEST_CASE("ranks that sum their scores before a round keep what one rank with all heads keeps") {
  const lethe::Probabilities<float> kind{};
  decode_as_one<SummedScores>(1, kind, 1.0f, {1, Scope::layer, true});
  decode_as_one<SummedScores>(2, kind, 1.0f, {1, Scope::sequence, true});
}

TEST_CASE("ranks that share out the query heads of each KV head agree on its tokens") {
  decode_as_one<SummedScores>(3, lethe::Probabilities<float>{}, 1.0f, {3, Scope::head, true});
  decode_as_one<SummedScores>(4, lethe::Probabilities<float>{}, 1.0f, {3, Scope::layer, true});
}

TEST_CASE("ranks with kept sets of their own keep equally many tokens, as heads on the host do") {
  decode_as_one<AgreedCounts<Scope::layer>>(5, lethe::Probabilities<float>{}, 0.98f,
                                            {2, Scope::head});
  decode_as_one<AgreedCounts<Scope::layer>>(6, lethe::Logits<float>{.scale = 0.7f}, 0.5f,
                                            {2, Scope::head});
}

TEST_CASE("heads of all ranks keep as many tokens as the neediest of them") {
  decode_as_one<AgreedCounts<Scope::head>>(7, lethe::Probabilities<lethe::BFloat16>{}, 0.9f,
                                           {6, Scope::head});
  decode_as_one<AgreedCounts<Scope::head>>(8, lethe::Probabilities<float>{}, 0.98f,
                                           {2, Scope::head});
}

TEST_CASE("the layer of a rank is left alone where another rank's scores are not finite") {
  std::vector<gpu_test::Emulation> ranks;
  std::vector<std::uint32_t> claims;
  const std::vector<std::int32_t> batch{0};
  const lethe::gpu::PlanSettings settings{.capacity = 64};
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back(lethe::gpu::StateShape{1, 1, 64}, rank);
    ranks[rank].start(batch, 0);
    ranks[rank].append(batch, 64);
    ranks[rank].read().scores(0, 0)[3] = rank == 0 ? 1.0f : not_a_number;
    const std::vector<std::uint32_t> own = ranks[rank].count(batch, settings, rank);
    claims.push_back(own.at(0));
  }
  ranks[0].keep(batch, settings, {claims[0]});
  CHECK(ranks[0].read().state.lengths[0] < 64);
  ranks[0].append(batch, 64 - ranks[0].read().state.lengths[0]);
  ranks[0].keep(batch, settings, {std::max(claims[0], claims[1])});
  CHECK(ranks[0].read().state.lengths[0] == 64);
}

TEST_CASE("what ranks sum is zero behind a layer's tokens and for padding") {
  gpu_test::Emulation rank({.layers = 2, .slots = 3, .capacity = 40, .groups = 2}, 1);
  const std::vector<std::int32_t> batch{2, -1};
  rank.start(batch, 0);
  rank.append(batch, 7);
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    for (std::uint32_t group = 0; group < 2; ++group) {
      for (float& score : rank.read().scores(layer, 2, group)) score = 0.5f;
    }
  }
  const std::vector<float> gathered = rank.gather(batch);
  REQUIRE(gathered.size() == 2 * 2 * 40);
  for (std::size_t i = 0; i < gathered.size(); ++i) {
    CHECK(gathered[i] == (i / 40 % 2 == 0 && i % 40 < 7 ? 1.0f : 0.0f));
  }
}

TEST_CASE(
    "halves of a round refuse policies whose counts ranks cannot agree on, each by its name") {
  namespace policies = lethe::gpu::policies;
  const Refusal none{"", ""};
  const Refusals fit(policies::h2o());
  CHECK(fit.round == none);
  CHECK(fit.counts == none);
  CHECK(fit.kept == none);
  for (const auto& settings : {policies::streaming_llm(), policies::random_attention(),
                               policies::snap_kv(), policies::tova()}) {
    const Refusals other(settings);
    CHECK(other.round == none);
    CHECK(other.counts == Refusal{"plan_counts", "score"});
    CHECK(other.kept == Refusal{"plan_kept", "score"});
  }
  lethe::gpu::PlanSettings guarded = policies::h2o();
  guarded.max_lost_mass = 0.5f;
  const Refusals lossy(guarded);
  CHECK(lossy.round == none);
  CHECK(lossy.counts == Refusal{"plan_counts", "max_lost_mass"});
  CHECK(lossy.kept == Refusal{"plan_kept", "max_lost_mass"});
}

TEST_CASE("gathered scores are refused where a round would not plan from them") {
  namespace policies = lethe::gpu::policies;
  const float scores = 0;
  CHECK(Refusals(policies::h2o(), &scores).round == Refusal{"", ""});
  for (const auto& settings :
       {policies::streaming_llm(), policies::random_attention(), policies::snap_kv()}) {
    CHECK(Refusals(settings, &scores).round == Refusal{"plan_round", "scores"});
  }
}

TEST_CASE("scores that a state does not hold between rounds are not gathered") {
  float gathered = 0;
  const auto refused = [&](const lethe::gpu::StateShape& shape, float* target) {
    const gpu_test::HostState host(shape);
    return refusal(lethe::gpu::check(host.state, {nullptr, 1}, target));
  };
  CHECK(refused({1, 1, 64}, &gathered) == Refusal{"", ""});
  CHECK(refused({1, 1, 64}, nullptr) == Refusal{"gather_scores", "gathered"});
  CHECK(refused({1, 1, 64, 8}, &gathered) == Refusal{"gather_scores", "window"});
  CHECK(refused({1, 1, 64, 0, false}, &gathered) == Refusal{"gather_scores", "scores"});
}
