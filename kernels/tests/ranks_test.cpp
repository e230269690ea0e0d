// Tensor-parallel ranks whose plans agree, beside a host pruner that sees all heads.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "decode_cases.hpp"
#include "emulation.hpp"
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
