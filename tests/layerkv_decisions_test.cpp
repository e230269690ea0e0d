// One scheduler's step from end to end: the same bits on every rank, nothing allocated, and the
// code that docs/layerkv.md shows.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "allocation_count.hpp"
#include "catch.hpp"
#include "lethe/layerkv/admission.hpp"
#include "lethe/layerkv/cost_model.hpp"
#include "lethe/layerkv/forecast.hpp"
#include "lethe/layerkv/output_length.hpp"
#include "lethe/layerkv/placement.hpp"
#include "lethe/layerkv/preemption.hpp"
#include "naive/random.hpp"

namespace {

namespace layerkv = lethe::layerkv;

constexpr layerkv::CacheShape llama{
    .layers = 32, .token_bytes = 4096, .fragment_bytes = 2 << 20, .copy_bytes = 2 << 20};
constexpr std::size_t device_blocks = 200000;

/// What one rank knows and decides with; all ranks are made and told the same.
struct Rank {
  layerkv::OutputLengths lengths;
  layerkv::BlockForecast forecast;
  layerkv::Watermarks marks{{.device_blocks = device_blocks}};
  layerkv::LayerwiseAdmission rule{{.shape = llama, .most_wait = 30}};
  std::vector<layerkv::AdmittedRequest> admitted = std::vector<layerkv::AdmittedRequest>(32);
  std::vector<layerkv::LayerMove> moves = std::vector<layerkv::LayerMove>(32);
  std::vector<std::uint32_t> layers = std::vector<std::uint32_t>(llama.layers);
  std::vector<std::size_t> victims = std::vector<std::size_t>(32);
  std::uint64_t digest = 0;

  void fold(std::uint64_t word) { digest = lethe::detail::mix(digest ^ word); }
  void fold(double value) { fold(std::bit_cast<std::uint64_t>(value)); }

  void admit(const layerkv::Situation& situation, std::span<const layerkv::WaitingRequest> queue) {
    const layerkv::AdmissionDecision decision = rule.decide(situation, queue, admitted);
    fold(decision.slack);
    fold(decision.prefill_seconds);
    for (std::size_t i = 0; i < decision.admitted; ++i) {
      fold(admitted[i].prefill_seconds);
      for (const std::uint32_t layer :
           layerkv::layers_that_stay(llama.layers, admitted[i].layers.fewest, layers)) {
        fold(std::uint64_t{layer});
      }
    }
  }

  void look_ahead(std::span<const layerkv::GrowingRequest> growing,
                  std::span<const layerkv::MovableRequest> movable,
                  const layerkv::FreeBlocks& free) {
    forecast.begin(free.device);
    for (const layerkv::GrowingRequest& request : growing) forecast.add(request);
    const layerkv::LowestPoint lowest = forecast.lowest();
    const auto away = layerkv::plan_offload(movable, marks.to_offload(lowest), free.host, moves);
    fold(std::uint64_t{away.blocks});
    fold(std::uint64_t{layerkv::plan_return(movable, marks.to_return(lowest), moves).blocks});
  }
};

/// A scheduler's inputs, drawn anew each step.
struct Step {
  std::vector<layerkv::DecodingRequest> decoding = std::vector<layerkv::DecodingRequest>(64);
  std::vector<layerkv::WaitingRequest> queue = std::vector<layerkv::WaitingRequest>(100);
  std::vector<layerkv::GrowingRequest> growing = std::vector<layerkv::GrowingRequest>(64);
  std::vector<layerkv::MovableRequest> movable = std::vector<layerkv::MovableRequest>(64);
  std::vector<layerkv::RunningRequest> running = std::vector<layerkv::RunningRequest>(64);

  void draw(naive::Random& random, const layerkv::OutputLengths& lengths) {
    for (std::size_t i = 0; i < decoding.size(); ++i) {
      const std::size_t generated = random.below(600);
      const layerkv::PredictedLength length = lengths.predict(generated);
      const double pace = 0.02 + 0.15 * static_cast<double>(random.unit());
      decoding[i] = {generated, pace * static_cast<double>(generated), pace,
                     length.at_least - generated};
      growing[i] = {.tokens = random.below(9000),
                    .device_layers = random.below(33),
                    .device_blocks = random.below(2000),
                    .steps_left = length.below - generated};
      movable[i] = {random.below(33), random.below(33), random.below(500)};
      running[i] = {static_cast<double>(random.unit()), random.below(900)};
    }
    for (auto& request : queue) {
      request = {.tokens = random.between(1, 20000),
                 .arrival = 100 * static_cast<double>(random.unit())};
    }
  }
};

}  // namespace

TEST_CASE("ranks that are told the same decide the same, to the bit, and allocate nothing") {
  // One rank measures; the others get its costs.
  layerkv::CostModel model({.costs = {.prefill = {2.2e-3, 1.6e-5, 1.2e-9}}});
  std::vector<Rank> ranks(3);
  Step step;
  naive::Random random(1);
  const std::size_t before = allocations;
  for (int turn = 0; turn < 200; ++turn) {
    step.draw(random, ranks[0].lengths);
    const double seconds = 0.01 + static_cast<double>(random.unit());
    model.observe(layerkv::PrefillWork{random.between(1, 8000), 0}, seconds);
    const layerkv::FreeBlocks free{random.below(device_blocks / 8), random.below(1000000)};
    const std::size_t finished = random.below(2000);
    for (Rank& rank : ranks) {
      rank.lengths.observe(finished);
      rank.admit({.decoding = step.decoding,
                  .costs = model.costs(),
                  .free = free,
                  .all = {device_blocks, 1000000},
                  .now = static_cast<double>(turn)},
                 step.queue);
      rank.look_ahead(step.growing, step.movable, free);
      const auto gone = layerkv::choose_victims(step.running, 2000, rank.victims);
      for (std::size_t i = 0; i < gone.requests; ++i) rank.fold(std::uint64_t{rank.victims[i]});
      rank.fold(
          layerkv::choose_resume(model.costs(), llama, 1 + finished, 20, 100000).swap_seconds);
    }
    if (ranks[1].digest != ranks[0].digest || ranks[2].digest != ranks[0].digest) {
      FAIL("ranks differ at step " << turn);
    }
  }
  const std::size_t after = allocations;
  CHECK(after == before);
  CHECK(ranks[0].digest != 0);
}

TEST_CASE("a rank that measured for itself would decide apart") {
  // Why costs are handed over: two clocks never agree, and so neither do two refitted models.
  layerkv::CostModel here;
  layerkv::CostModel there;
  for (int i = 1; i < 50; ++i) {
    here.observe(layerkv::DecodeWork{1, 1000}, 0.010);
    there.observe(layerkv::DecodeWork{1, 1000}, 0.010 + 1e-9 * i);
  }
  CHECK_FALSE(here.costs() == there.costs());
}

namespace {

/// An engine as docs/layerkv.md has it: three requests decode, two wait.
struct Engine {
  std::vector<layerkv::DecodingRequest> decoding = std::vector<layerkv::DecodingRequest>(
      3, {.generated = 100, .decoding_seconds = 4, .seconds_per_token = 0.04, .remaining = 50});
  std::vector<layerkv::WaitingRequest> queue{{.tokens = 4000}, {.tokens = 100000, .arrival = 1}};
  layerkv::FreeBlocks free{40000, 1000000};
  layerkv::FreeBlocks total{200000, 1000000};
  double now = 2;
  std::size_t begun = 0;
  std::size_t kept_layers = 0;
  std::size_t offloaded = 0;

  void begin(std::size_t, std::span<const std::uint32_t> kept) {
    ++begun;
    kept_layers += kept.size();
  }
  void offload(std::size_t, std::size_t layers) { offloaded += layers; }
};

}  // namespace

TEST_CASE("costs are fitted, then followed") {
  using layerkv::CopyWork;
  using layerkv::PrefillWork;
  std::vector<layerkv::Measured<PrefillWork>> prefills;
  std::vector<layerkv::Measured<CopyWork>> copies;
  for (std::size_t n = 256; n <= 8192; n *= 2) {
    prefills.push_back({{n, 0}, 2e-3 + 1.6e-5 * static_cast<double>(n)});
    copies.push_back({{n * 4096, n / 16, 1}, 1e-5 + 7e-11 * 4096 * static_cast<double>(n)});
  }
  // [layerkv_costs]
  layerkv::Costs costs;
  costs.prefill = layerkv::fit<layerkv::PrefillCost>(prefills).cost;  // your measured tables
  costs.copy = layerkv::fit<layerkv::CopyCost>(copies).cost;
  layerkv::CostModel model({.costs = costs});

  model.observe(PrefillWork{.tokens = 2048, .context = 4096}, 0.046);  // what a pass took
  const double seconds = model.costs().prefill.seconds({.tokens = 512, .context = 6144});
  // [layerkv_costs]
  CHECK(seconds > 0.008);
  CHECK(model.prefill_counts().used == 1);
}

TEST_CASE("a scheduler's step") {
  Engine engine;
  const layerkv::Costs costs{.prefill = {2.2e-3, 1.6e-5, 1.2e-9}};
  const std::size_t layers = 32;
  // [layerkv_admit]
  const layerkv::CacheShape shape{.layers = 32, .token_bytes = 4096, .fragment_bytes = 2 << 20};
  const layerkv::LayerwiseAdmission rule({.shape = shape, .tpot = 0.2, .most_wait = 30});
  std::vector<layerkv::AdmittedRequest> admitted(16);
  std::vector<std::uint32_t> kept(layers);

  const layerkv::AdmissionDecision decision = rule.decide({.decoding = engine.decoding,
                                                           .costs = costs,
                                                           .free = engine.free,
                                                           .all = engine.total,
                                                           .now = engine.now},
                                                          engine.queue, admitted);
  for (std::size_t i = 0; i < decision.admitted; ++i) {
    engine.begin(i, layerkv::layers_that_stay(layers, admitted[i].layers.fewest, kept));
  }
  // [layerkv_admit]
  CHECK(engine.begun == 2);
  CHECK(engine.kept_layers == 0);

  std::vector<layerkv::GrowingRequest> growing(200, {.tokens = 1600, .device_layers = 32});
  std::vector<layerkv::MovableRequest> movable(200, {.device_layers = 32, .layer_blocks = 100});
  engine.free.device = 7000;
  // [layerkv_ahead]
  layerkv::BlockForecast forecast({.block_tokens = 16, .horizon = 16});
  const layerkv::Watermarks marks({.device_blocks = engine.total.device});
  std::vector<layerkv::LayerMove> moves(64);

  forecast.begin(engine.free.device);
  for (const layerkv::GrowingRequest& request : growing) forecast.add(request);
  const std::size_t wanted = marks.to_offload(forecast.lowest());
  const auto plan = layerkv::plan_offload(movable, wanted, engine.free.host, moves);
  for (std::size_t i = 0; i < plan.moves; ++i) engine.offload(moves[i].request, moves[i].layers);
  // [layerkv_ahead]
  CHECK(wanted == 1400);
  CHECK(engine.offloaded == 14);
}

TEST_CASE("a length is predicted from both sides") {
  std::size_t generated = 300;
  // [layerkv_lengths]
  layerkv::OutputLengths lengths;
  for (const std::size_t finished : {80u, 350u, 400u, 900u}) lengths.observe(finished);

  const layerkv::PredictedLength length = lengths.predict(generated);
  const std::size_t remaining = length.at_least - generated;  // DecodingRequest::remaining
  const std::size_t steps_left = length.below - generated;    // GrowingRequest::steps_left
  // [layerkv_lengths]
  CHECK(remaining == 0);
  CHECK(steps_left == 212);
}
