#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "cpu_comparison.hpp"
#include "error.hpp"
#include "host_backend.hpp"
#include "tiny_model.hpp"
#include "workbench.hpp"

namespace {

using namespace cuda_decode;

/// The embedded reasoner, on the CPU and on the emulated device.
struct Reasoner {
  decoder::Workbench bench{decoder::ModelOptions{}};
  std::unique_ptr<Backend> backend = exact_backend();
  std::unique_ptr<LoadedModel> model = backend->load(source_of(bench.model));

  Comparison compare(const ComparisonSettings& settings, std::size_t sequences = 3) {
    std::vector<std::string> prompts = comparison_prompts(bench);
    prompts.resize(sequences);
    return cuda_decode::compare(bench, *model, prompts, settings);
  }
};

/// A device whose logits are 0, but for one of them.
struct ConstantStepper final : Stepper {
  ConstantStepper(std::size_t vocabulary, float first) : row(vocabulary, 0.0f) { row[0] = first; }
  void start(std::span<const std::uint32_t>) override {}
  void step(std::span<const RowToken> rows) override { count = rows.size(); }
  [[nodiscard]] std::vector<std::int32_t> likeliest() override {
    return std::vector<std::int32_t>(count, 0);
  }
  [[nodiscard]] std::vector<float> logits(std::uint32_t) override { return row; }
  [[nodiscard]] std::vector<std::uint32_t> lengths(std::uint32_t) override { return {0}; }
  void place(std::uint32_t, std::uint32_t) override {}
  [[nodiscard]] double time(std::uint32_t) override { return 0; }
  [[nodiscard]] PhaseSeconds time_phases(std::uint32_t) override { return {}; }

  std::vector<float> row;
  std::size_t count = 0;
};

struct ConstantModel final : LoadedModel {
  ConstantModel(std::size_t size, float logit) : vocabulary(size), first(logit) {}
  [[nodiscard]] std::size_t bytes(const StepperSettings&) const override { return 0; }
  [[nodiscard]] std::unique_ptr<Stepper> make(const StepperSettings&) override {
    return std::make_unique<ConstantStepper>(vocabulary, first);
  }

  std::size_t vocabulary;
  float first;
};

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const decoder::Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("the reasoner writes the CPU's tokens with the whole cache") {
  const Comparison found = Reasoner().compare({.rows = 2, .tokens = 60});
  CHECK(found.sequences == 3);
  CHECK(found.steps == 3 * found.read);
  CHECK(found.same == found.steps);
  CHECK(found.difference < 0.02);
  CHECK(found.fewest_kept == found.read);
}

TEST_CASE("the reasoner writes the CPU's tokens under Lethe, whose layers then differ in length") {
  const ComparisonSettings settings{
      .rows = 2,
      .tokens = 100,
      .budget = 112,
      .lethe = {.sparsity_ratio = 30.0f, .recent_ratio = 0.1f, .first_threshold = 48}};
  const Comparison found = Reasoner().compare(settings, 3);
  CHECK(found.sequences == 3);
  CHECK(found.same == found.steps);
  CHECK(found.difference < 0.02);
  CHECK(found.same_length == found.layers);
  CHECK(found.fewest_kept < found.most_kept);
  CHECK(found.most_kept <= 112);
  CHECK(found.read > 112);
}

TEST_CASE("a comparison agrees where tokens, logits and lengths all do") {
  const Comparison good{
      .steps = 9, .same = 8, .difference = 0.09, .margin = 0.04, .layers = 4, .same_length = 4};
  CHECK(good.agrees({}));
  CHECK_FALSE(Comparison{}.agrees({}));
  Comparison apart = good;
  apart.difference = 0.11;
  Comparison shorter = good;
  shorter.same_length = 3;
  Comparison other = good;
  other.margin = 0.06;
  Comparison no_number = good;
  no_number.difference = NAN;
  for (const Comparison& found : {apart, shorter, no_number}) {
    CHECK_FALSE(found.agrees({}));
    // With coarser numbers tokens alone count.
    CHECK(found.agrees({.difference = std::nullopt}));
  }
  CHECK_FALSE(other.agrees({}));
  CHECK_FALSE(other.agrees({.difference = std::nullopt}));
}

TEST_CASE("a logit that is no number, and a layer of another length, are found") {
  decoder::Workbench bench{decoder::ModelOptions{}};
  for (const bool is_number : {true, false}) {
    ConstantModel model(bench.model.config().vocabulary, is_number ? 0.0f : NAN);
    const Comparison found =
        compare(bench, model, {comparison_prompts(bench)[0]}, {.rows = 1, .tokens = 2});
    CHECK(std::isinf(found.difference) != is_number);
    CHECK(found.layers == 1);
    CHECK(found.same_length == 0);
  }
}

TEST_CASE("weights, activations and cache in bf16 stay near the CPU") {
  decoder::Workbench bench{decoder::ModelOptions{}};
  const std::unique_ptr<Backend> backend = fast_backend();
  const std::unique_ptr<LoadedModel> model = backend->load(source_of(bench.model));
  const Comparison found =
      compare(bench, *model, {comparison_prompts(bench)[0]}, {.rows = 1, .tokens = 40});
  CHECK(found.difference > 0.02);
  CHECK(found.difference < 1.0);
  CHECK(found.same * 10 >= found.steps * 9);
}

TEST_CASE("llama, qwen2 and qwen3, whose heads are paired, biased and normed in their ways") {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    CAPTURE(architecture);
    const decoder::test::TemporaryFile file(decoder::test::tiny_model(
        {.architecture = architecture, .type = decoder::gguf::TensorType::F32}));
    const decoder::Model model(decoder::gguf::File::open(file.path()), 1);
    decoder::Decoder cpu(model, 1);
    decoder::Sequence sequence{decoder::KVCache(model.config(), decoder::CacheType::f16, 64), {}};
    const std::unique_ptr<Backend> backend = exact_backend();
    const std::unique_ptr<LoadedModel> loaded = backend->load(source_of(model));
    const std::unique_ptr<Stepper> stepper = loaded->make({.rows = 1, .capacity = 64});
    const std::uint32_t slot = 0;
    stepper->start({&slot, 1});
    for (std::int32_t i = 0; i < 12; ++i) {
      const RowToken row{0, i * 5 % 64};
      stepper->step({&row, 1});
      const std::span<const float> expected = cpu.step(sequence, row.token);
      const std::vector<float> logits = stepper->logits(0);
      for (std::size_t t = 0; t < logits.size(); ++t)
        REQUIRE(std::abs(logits[t] - expected[t]) < 0.01);
    }
  }
}

TEST_CASE("a row that names no token reads the one its last step made the likeliest") {
  Reasoner reasoner;
  const auto prompt =
      decoder::encode_prompt(reasoner.bench, comparison_prompts(reasoner.bench)[1], false, false);
  const auto write = [&](bool by_the_host) {
    const std::unique_ptr<Stepper> stepper = reasoner.model->make({.rows = 2, .capacity = 100});
    const std::uint32_t slots[] = {0, 1};
    stepper->start(slots);
    std::vector<std::int32_t> text;
    for (std::size_t i = 0; i < prompt.size() + 10; ++i) {
      RowToken row{1, i < prompt.size() ? prompt[i] : RowToken::likeliest};
      if (i >= prompt.size() && by_the_host) row.token = text.back();
      stepper->step({&row, 1});
      text.push_back(stepper->likeliest()[0]);
    }
    return text;
  };
  CHECK(write(false) == write(true));
}

TEST_CASE("rounds that make room for several steps come once in as many, and lose no token") {
  Reasoner reasoner;
  StepperSettings settings{.rows = 2, .capacity = 40, .pruning = lethe_pruning(40)};
  settings.pruning->plan.step_tokens = 4;
  settings.pruning->plan.slack_ratio = 0.25f;
  const std::unique_ptr<Stepper> stepper = reasoner.model->make(settings);
  const std::uint32_t slots[] = {0, 1};
  stepper->start(slots);
  std::vector<std::uint32_t> before(2, 0);
  std::size_t rounds = 0;
  for (std::int32_t step = 0; step < 120; ++step) {
    // Slot 1 joins late, and is away for a while.
    const bool is_away = step < 3 || (step > 60 && step < 71);
    const RowToken rows[] = {{0, step % 30}, {is_away ? -1 : 1, step % 30}};
    stepper->step(rows);
    for (std::uint32_t slot = 0; slot < (is_away ? 1u : 2u); ++slot) {
      const std::uint32_t now = stepper->lengths(slot)[0];
      CHECK(now <= 40);
      CHECK((now == before[slot] + 1 || (before[slot] > 36 && now == 31)));
      rounds += now <= before[slot] ? 1 : 0;
      before[slot] = now;
    }
  }
  CHECK(rounds > 10);
}

TEST_CASE("a cache that is full, a batch, slot or token that is too large: refused in a line") {
  Reasoner reasoner;
  const std::unique_ptr<Stepper> stepper = reasoner.model->make({.rows = 1, .capacity = 3});
  const std::uint32_t slot = 0;
  stepper->start({&slot, 1});
  const RowToken row{0, 5};
  for (int i = 0; i < 3; ++i) stepper->step({&row, 1});
  CHECK(error_of([&] { stepper->step({&row, 1}); }).find("holds 3 tokens") != std::string::npos);
  stepper->start({&slot, 1});
  stepper->step({&row, 1});
  const std::uint32_t beyond_slot = 7;
  const RowToken beyond[] = {{1, 5}, {0, 100'000}};
  CHECK(error_of([&] { stepper->step({beyond, 1}); }).find("slot 1") != std::string::npos);
  CHECK(error_of([&] { stepper->step({beyond + 1, 1}); }).find("100000") != std::string::npos);
  CHECK(error_of([&] { stepper->start({&beyond_slot, 1}); }).find("slot 7") != std::string::npos);
  const RowToken two[] = {{0, 5}, {-1, 0}};
  CHECK(error_of([&] { stepper->step(two); }).find("2 are more rows") != std::string::npos);
  const std::uint32_t twice[] = {0, 0};
  CHECK(error_of([&] { stepper->start(twice); }).find("2 are more rows") != std::string::npos);
  CHECK(error_of([&] { static_cast<void>(stepper->logits(1)); }).find("row 1") !=
        std::string::npos);
  CHECK(error_of([&] { static_cast<void>(stepper->lengths(1)); }).find("slot 1") !=
        std::string::npos);
  CHECK(error_of([&] { stepper->place(4, 9); }).find("cache of 3") != std::string::npos);
  CHECK(error_of([&] { stepper->place(3, 2); }).find("of 2 read") != std::string::npos);
  CHECK(error_of([&] {
          static_cast<void>(reasoner.model->make({.rows = 129, .capacity = 3}));
        }).find("1 to 128") != std::string::npos);
}

TEST_CASE("the memory that is told beforehand is what is taken") {
  Reasoner reasoner;
  const ModelSource source = source_of(reasoner.bench.model);
  std::size_t before = test::allocated_bytes();
  const std::unique_ptr<LoadedModel> model = reasoner.backend->load(source);
  CHECK(test::allocated_bytes() - before == reasoner.backend->bytes(source));
  StepperSettings settings{.rows = 5, .capacity = 70};
  for (const bool is_pruned : {false, true}) {
    if (is_pruned) settings.pruning = lethe_pruning(70);
    const std::size_t told = model->bytes(settings);
    before = test::allocated_bytes();
    const std::unique_ptr<Stepper> stepper = model->make(settings);
    CHECK(test::allocated_bytes() - before == told);
  }
}
