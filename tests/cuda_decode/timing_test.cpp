#include "timing.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "catch.hpp"
#include "error.hpp"
#include "host_backend.hpp"

namespace {

using namespace cuda_decode;
using Catch::Detail::Approx;
using nlohmann::json;

decoder::ModelConfig small_shape(const char* architecture) {
  return {.architecture = architecture,
          .name = "small",
          .layers = 2,
          .width = 32,
          .heads = 6,
          .kv_heads = 1,
          .head_dim = 16,
          .feed_forward = 48,
          .vocabulary = 40,
          .context = 4096,
          .rope_channels = 16};
}

json timed(const char* architecture, const TimingSettings& settings) {
  const ModelSource source = random_source(small_shape(architecture));
  const std::unique_ptr<Backend> backend = fast_backend();
  return time_steps(*backend, source, settings);
}

}  // namespace

TEST_CASE("shapes by name have the parameters that their names say") {
  const ModelSource llama = random_source(named_shape("llama-3.1-8b"));
  const double embedding = 128256.0 * 4096;
  CHECK(llama.step_weights() + embedding == Approx(8.03e9).epsilon(0.001));
  const ModelSource qwen = random_source(named_shape("r1-distill-qwen-7b"));
  CHECK(qwen.step_weights() + 152064.0 * 3584 == Approx(7.615e9).epsilon(0.001));
  CHECK(qwen.layers[0].bias.size() == std::size_t{36} * 128);
  CHECK_THROWS_AS(named_shape("gpt-5"), decoder::Error);
}

TEST_CASE("a case's ratio stands beside that of its bytes") {
  const json found =
      timed("llama", {.batches = {2}, .contexts = {80, 300}, .bound = 64, .room = 1, .steps = 4});
  REQUIRE(found.at("rows").size() == 2);
  // 2 layers, keys and values of 16 channels, two bytes each.
  CHECK(found.at("token_bytes") == 2 * 2 * 16 * 2);
  const double weights = 2 * (32 * (6 + 2) * 16 + 96 * 32 + 96 * 32 + 48 * 32) + 40 * 32;
  CHECK(found.at("weight_bytes") == 2 * weights);
  const json& row = found.at("rows").at(1);
  CHECK(row.at("context") == 300);
  const json& whole = row.at("whole");
  const json& pruned = row.at("lethe");
  CHECK(whole.at("held_tokens") == 302);
  // Between 56, what a round at the bound of 64 leaves, and the bound.
  CHECK(pruned.at("held_tokens") == 60);
  CHECK(whole.at("cache_bytes") == 302 * 2 * 128);
  const double speed = found.at("bytes_per_second");
  CHECK(whole.at("allowed_seconds").get<double>() * speed == Approx(2 * weights + 302 * 2 * 128));
  CHECK(row.at("allowed_ratio").get<double>() ==
        Approx((2 * weights + 302 * 256) / (2 * weights + 60 * 256)));
  CHECK(row.at("ratio").get<double>() ==
        Approx(whole.at("seconds").get<double>() / pruned.at("seconds").get<double>()));
  CHECK(timing_tables(found).find("bytes allow") != std::string::npos);
}

TEST_CASE("activations of random models stay numbers, of every architecture") {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    const ModelSource source = random_source(small_shape(architecture));
    const std::unique_ptr<Backend> backend = fast_backend();
    const std::unique_ptr<LoadedModel> model = backend->load(source);
    const std::unique_ptr<Stepper> stepper = model->make({.rows = 3, .capacity = 50});
    stepper->place(40, 900);
    static_cast<void>(stepper->time(4));
    const std::vector<float> logits = stepper->logits(2);
    double square = 0;
    for (const float logit : logits) square += double{logit} * logit;
    CHECK(square / 40 == Approx(1.0).margin(0.9));
    CHECK(stepper->lengths(1) == std::vector<std::uint32_t>{44, 44});
  }
}

TEST_CASE("a case that the memory does not hold says what it wants, and the others are timed") {
  test::set_free_bytes(400'000);
  const json found =
      timed("llama", {.batches = {1}, .contexts = {100, 4000}, .bound = 64, .room = 1, .steps = 2});
  const json& row = found.at("rows").at(1);
  CHECK(found.at("rows").at(0).at("whole").at("fits") == true);
  CHECK(row.at("whole").at("fits") == false);
  CHECK(row.at("whole").at("memory_bytes") > 400'000);
  CHECK_FALSE(row.contains("ratio"));
  CHECK(row.at("lethe").at("fits") == true);
  CAPTURE(timing_tables(found));
  CHECK(timing_tables(found).find("needs ") != std::string::npos);
  CHECK_THROWS_AS(timed("llama", {.batches = {1}, .contexts = {100}, .bound = 64, .room = 9}),
                  decoder::Error);
  test::set_free_bytes(20'000);
  CHECK_THROWS_AS(timed("llama", {.batches = {1}, .contexts = {100}, .bound = 64, .room = 8}),
                  decoder::Error);
  test::set_free_bytes(std::size_t{1} << 26);
}

TEST_CASE("a case whose memory is not to be had after all is one that does not fit") {
  test::set_free_bytes(900'000);
  test::set_largest_piece(250'000);
  const json found =
      timed("llama", {.batches = {1}, .contexts = {4000, 100}, .bound = 64, .room = 1, .steps = 2});
  test::set_largest_piece(SIZE_MAX);
  test::set_free_bytes(std::size_t{1} << 26);
  REQUIRE(found.at("rows").size() == 2);
  const json& refused = found.at("rows").at(0).at("whole");
  CHECK(refused.at("memory_bytes") < 900'000 * 0.97);
  CHECK(refused.at("fits") == false);
  CHECK(refused.at("free_bytes") == 900'000);
  CHECK_FALSE(found.at("rows").at(0).contains("ratio"));
  CHECK(found.at("rows").at(0).at("lethe").at("fits") == true);
  CHECK(found.at("rows").at(1).contains("ratio"));
  CHECK(timing_tables(found).find("needs ") != std::string::npos);
}
