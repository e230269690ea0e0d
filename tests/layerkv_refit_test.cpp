// A cost model that follows what is measured: noise, outliers, constant work, machines that change.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

#include "catch.hpp"
#include "lethe/layerkv/cost_model.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::CostModel;
using layerkv::CostModelConfig;
using layerkv::DecodeWork;
using layerkv::PrefillWork;
using naive::Random;

namespace {

CostModelConfig config() {
  return {.costs = {.prefill = {2.2e-3, 1.6e-5, 1.2e-9}, .decode = {5.4e-3, 1.5e-5, 3.9e-8}}};
}

DecodeWork draw(Random& random) {
  const std::size_t sequences = random.between(1, 256);
  return {sequences, sequences * random.between(16, 4096)};
}

double noise(Random& random, double spread) {
  return 1 + spread * (2 * static_cast<double>(random.unit()) - 1);
}

/// Shows the model `steps` decode steps of a machine that takes `factor` times as long.
void run(CostModel& model, Random& random, std::size_t steps, double factor, double spread) {
  const layerkv::DecodeCost truth = config().costs.decode;
  for (std::size_t i = 0; i < steps; ++i) {
    const DecodeWork work = draw(random);
    CHECK(model.observe(work, truth.seconds(work) * factor * noise(random, spread)));
  }
}

/// The largest relative error against a machine that takes `factor` times as long.
double worst_error(const CostModel& model, double factor) {
  const layerkv::DecodeCost truth = config().costs.decode;
  double worst = 0;
  Random random(99);
  for (int i = 0; i < 200; ++i) {
    const DecodeWork work = draw(random);
    const double seconds = truth.seconds(work) * factor;
    worst = std::max(worst, std::abs(model.costs().decode.seconds(work) / seconds - 1));
  }
  return worst;
}

std::string refusal(const CostModelConfig& bad) {
  try {
    CostModel model(bad);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a model that is right stays right under noise") {
  CostModel model(config());
  Random random(1);
  double worst = 0;
  for (int round = 0; round < 20; ++round) {
    run(model, random, 100, 1, 0.1);
    worst = std::max(worst, worst_error(model, 1));
  }
  CHECK(worst < 0.1);
  CHECK(model.decode_counts().used == 2000);
  CHECK(model.costs().prefill == config().costs.prefill);
  CHECK(model.costs().copy == config().costs.copy);
}

TEST_CASE("a machine that slows down or was misjudged is followed") {
  for (const double factor : {0.2, 0.7, 1.5, 10.0}) {
    CostModel model(config());
    Random random(2);
    run(model, random, 2000, factor, 0.05);
    INFO("factor " << factor);
    CHECK(worst_error(model, factor) < (factor > 2 ? 0.15 : 0.1));
    run(model, random, 2000, 1, 0.05);
    CHECK(worst_error(model, 1) < 0.1);
  }
}

TEST_CASE("one measurement, however absurd, hardly bends the model") {
  for (const double factor : {1e-3, 1e3}) {
    CostModel model(config());
    Random random(3);
    run(model, random, 500, 1, 0);
    run(model, random, 1, factor, 0);
    CHECK(worst_error(model, 1) < 0.05);
    CHECK(model.decode_counts().surprises == 1);
    // Nor does every twentieth.
    for (int i = 0; i < 100; ++i) {
      run(model, random, 19, 1, 0);
      run(model, random, 1, factor, 0);
    }
    CHECK(worst_error(model, 1) < 0.15);
    CHECK(model.decode_counts().surprises == 101);
  }
  CostModel fresh(config());
  Random random(4);
  run(fresh, random, 1, 1e3, 0);
  CHECK(worst_error(fresh, 1) < 0.15);
}

TEST_CASE("work that never varies leaves the model sane everywhere") {
  const DecodeWork always{64, 64 * 1000};
  const DecodeWork small{1, 100};
  const DecodeWork large{256, 256 * 8000};
  for (const double factor : {0.5, 1.0, 1.6}) {
    CostModel model(config());
    const layerkv::DecodeCost truth = config().costs.decode;
    const double seconds = truth.seconds(always) * factor;
    Random random(5);
    for (int i = 0; i < 20000; ++i) model.observe(always, seconds * noise(random, 0.05));
    const layerkv::DecodeCost& cost = model.costs().decode;
    INFO("factor " << factor);
    CHECK_THAT(cost.seconds(always), WithinRel(seconds, 0.03));
    // What it says of other work changes in about the same proportion.
    const double room = factor < 1 ? 1.4 : 1.1;
    for (const DecodeWork& work : {small, large}) {
      const double ratio = cost.seconds(work) / truth.seconds(work) / factor;
      CHECK(ratio > 1 / room);
      CHECK(ratio < room);
    }
    // And it still learns.
    run(model, random, 1500, factor, 0);
    CHECK(worst_error(model, factor) < 0.05);
  }
}

TEST_CASE("coefficients never fall below 0, whatever comes") {
  CostModel model(config());
  Random random(6);
  for (int i = 0; i < 5000; ++i) {
    const DecodeWork work = draw(random);
    model.observe(work, std::pow(10.0, -6 + 8 * static_cast<double>(random.unit())));
    const auto c = layerkv::detail::coefficients(model.costs().decode);
    const bool sane = std::all_of(c.begin(), c.end(), [](double x) { return x >= 0 && x < 3600; });
    if (!sane) FAIL("coefficients " << c[0] << ", " << c[1] << ", " << c[2] << " at " << i);
  }
}

TEST_CASE("a model that begins with nothing learns from the first measurement on") {
  CostModel model;
  const layerkv::DecodeCost truth = config().costs.decode;
  Random random(7);
  for (int i = 0; i < 1000; ++i) {
    const DecodeWork work = draw(random);
    model.observe(work, truth.seconds(work));
  }
  CHECK(worst_error(model, 1) < 0.1);
}

TEST_CASE("measurements that cannot be change nothing and are counted") {
  CostModel model(config());
  const layerkv::Costs before = model.costs();
  for (const double seconds : {0.0, -1.0, 1e-12, 1e5, std::nan(""), double(INFINITY)}) {
    CHECK_FALSE(model.observe(PrefillWork{100, 0}, seconds));
    CHECK_FALSE(model.observe(DecodeWork{1, 10}, seconds));
    CHECK_FALSE(model.observe(layerkv::CopyWork{1, 1, 1}, seconds));
  }
  CHECK_FALSE(model.observe(PrefillWork{0, 5}, 1e-3));
  CHECK_FALSE(model.observe(DecodeWork{0, 5}, 1e-3));
  CHECK_FALSE(model.observe(layerkv::CopyWork{1, 1, 0}, 1e-3));
  CHECK(model.costs() == before);
  CHECK(model.prefill_counts() == layerkv::RefitCounts{0, 7, 0});
  CHECK(model.decode_counts() == layerkv::RefitCounts{0, 7, 0});
  CHECK(model.copy_counts() == layerkv::RefitCounts{0, 7, 0});
}

TEST_CASE("each kind of work refits its own costs") {
  CostModel model(config());
  for (int i = 0; i < 1000; ++i) {
    model.observe(PrefillWork{1000, 0}, model.costs().prefill.seconds({1000, 0}) * 1.1);
    model.observe(layerkv::CopyWork{1 << 20, 4, 4}, 1e-3);
  }
  CHECK(model.costs().decode == config().costs.decode);
  CHECK(model.costs().prefill.seconds({1000, 0}) > config().costs.prefill.seconds({1000, 0}));
  CHECK_THAT(model.costs().copy.seconds({1 << 20, 4, 4}), WithinRel(1e-3, 0.05));
}

TEST_CASE("mixed passes refit both parts") {
  CostModel model(config());
  const layerkv::Costs truth = config().costs;
  Random random(8);
  const auto draw_chunk = [&random] {
    return PrefillWork{random.between(64, 2048), random.below(16384)};
  };
  for (int i = 0; i < 1500; ++i) {
    const PrefillWork chunk = draw_chunk();
    const DecodeWork beside = draw(random);
    CHECK(model.observe(chunk, beside, truth.mixed_seconds(chunk, beside) * 1.5));
  }
  for (int i = 0; i < 50; ++i) {
    const PrefillWork chunk = draw_chunk();
    const DecodeWork beside = draw(random);
    CHECK_THAT(model.costs().mixed_seconds(chunk, beside),
               WithinRel(truth.mixed_seconds(chunk, beside) * 1.5, 0.05));
    CHECK_THAT(model.costs().prefill.seconds(chunk),
               WithinRel(truth.prefill.seconds(chunk) * 1.5, 0.1));
  }
  CHECK(model.prefill_counts().used == 1500);
  CHECK(model.decode_counts().used == 1500);
  CHECK(model.observe(PrefillWork{}, DecodeWork{1, 10}, 1e-2));
  CHECK(model.observe(PrefillWork{100, 0}, DecodeWork{}, 1e-2));
  CHECK(model.prefill_counts().used == 1501);
  CHECK(model.decode_counts().used == 1501);
  CHECK_FALSE(model.observe(PrefillWork{100, 0}, DecodeWork{1, 10}, std::nan("")));
  CHECK(model.prefill_counts().refused == 1);
  CHECK(model.decode_counts().refused == 1);
  CostModel knows_nothing;
  CHECK_FALSE(knows_nothing.observe(PrefillWork{100, 0}, DecodeWork{1, 10}, 1e-2));
}

TEST_CASE("settings that cannot be are refused by name") {
  const auto refuses = [](auto change, const std::string& field, double value) {
    CostModelConfig bad = config();
    change(bad);
    const std::string start = "lethe: " + field + " = " + std::to_string(value) + ": ";
    const std::string message = refusal(bad);
    CHECK(message.substr(0, start.size()) == start);
  };
  for (const double value : {-1.0, std::nan(""), double(INFINITY), 1e9}) {
    refuses([=](auto& c) { c.costs.prefill.base = value; }, "costs.prefill.base", value);
    refuses([=](auto& c) { c.costs.prefill.per_token = value; }, "costs.prefill.per_token", value);
    refuses([=](auto& c) { c.costs.prefill.per_pair = value; }, "costs.prefill.per_pair", value);
    refuses([=](auto& c) { c.costs.decode.base = value; }, "costs.decode.base", value);
    refuses([=](auto& c) { c.costs.decode.per_sequence = value; }, "costs.decode.per_sequence",
            value);
    refuses([=](auto& c) { c.costs.decode.per_token = value; }, "costs.decode.per_token", value);
    refuses([=](auto& c) { c.costs.copy.per_copy = value; }, "costs.copy.per_copy", value);
    refuses([=](auto& c) { c.costs.copy.per_fragment = value; }, "costs.copy.per_fragment", value);
    refuses([=](auto& c) { c.costs.copy.per_byte = value; }, "costs.copy.per_byte", value);
    refuses([=](auto& c) { c.confidence = value; }, "confidence", value);
    refuses([=](auto& c) { c.most_surprise = value; }, "most_surprise", value);
  }
  for (const double value : {0.4, 1.0, -1.0, std::nan("")}) {
    refuses([=](auto& c) { c.forgetting = value; }, "forgetting", value);
  }
  const auto machine = [](layerkv::MachineEstimate m) {
    try {
      static_cast<void>(layerkv::estimated_costs(m));
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(machine({}).substr(0, 19) == "lethe: parameters =");
  CHECK(machine({8e9, 32, 4096, 4096, 2, 1e15, 0}).substr(0, 25) == "lethe: memory_bandwidth =");
}
