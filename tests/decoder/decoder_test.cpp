#include "decoder.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "attention.hpp"
#include "catch.hpp"
#include "error.hpp"
#include "onlooker.hpp"
#include "random_values.hpp"
#include "thread_pool.hpp"
#include "tiny_model.hpp"

namespace {

using namespace decoder;
using Tokens = std::vector<std::int32_t>;

Model tiny(const std::string& architecture, gguf::TensorType type) {
  const test::TemporaryFile file(test::tiny_model({.architecture = architecture, .type = type}));
  return Model(gguf::File::open(file.path()), 1);
}

Tokens some_tokens(std::size_t count, std::size_t seed = 1) {
  Tokens tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<std::int32_t>((i * i * 7 + i * seed * 13 + seed) % 64);
  }
  return tokens;
}

Sequence sequence_of(const Model& model, const std::string& policy = "none",
                     std::size_t budget = 64) {
  return {
      KVCache(model.config(), CacheType::f16, 400),
      make_pruner(
          policy,
          {.budget = budget, .rope_frequencies = model.rope_frequencies(), .file = &model.file()},
          model.config())};
}

std::vector<float> prefill(const Model& model, unsigned threads, const Tokens& tokens) {
  Decoder decoder(model, threads);
  Sequence sequence = sequence_of(model);
  const std::span<const float> logits = decoder.prefill(sequence, tokens, LogitsOf::all);
  return {logits.begin(), logits.end()};
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(double{a[i]} - double{b[i]}));
  }
  return most;
}

/// In the place of a pruner: recomputes what was observed from the queries that it is shown.
class QueryWatch : public Onlooker {
 public:
  static constexpr bool reads_queries = true;

  QueryWatch(const ModelConfig& model, const KVCache& cache, double& worst, std::size_t& shown)
      : Onlooker({.layers = model.layers, .capacity = 400}),
        kv_heads_(model.kv_heads),
        cache_(&cache),
        worst_(&worst),
        shown_(&shown) {}

  void observe(std::size_t, const lethe::Probabilities<float>& seen) { seen_ = seen; }
  void observe(std::size_t layer, const lethe::Queries<float>& queries) {
    REQUIRE(queries.queries == seen_.queries);
    for (std::size_t q = 0; q < queries.queries; ++q) {
      for (std::size_t head = 0; head < queries.heads; ++head) compare(layer, queries, q, head);
    }
    *shown_ += queries.queries;
  }

 private:
  void compare(std::size_t layer, const lethe::Queries<float>& queries, std::size_t q,
               std::size_t head) {
    const float* query = queries.data + head * queries.head_stride + q * queries.query_stride;
    const float* observed = seen_.data + head * seen_.head_stride + q * seen_.query_stride;
    std::vector<double> weights(seen_.columns - queries.queries + q + 1);
    std::vector<float> key(queries.head_dimension);
    double sum = 0;
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
      cache_->read_keys(layer, head * kv_heads_ / queries.heads, slot, key);
      double dot = 0;
      for (std::size_t c = 0; c < key.size(); ++c) dot += double{query[c]} * double{key[c]};
      sum += weights[slot] = std::exp(dot / std::sqrt(static_cast<double>(key.size())));
    }
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
      *worst_ = std::max(*worst_, std::abs(weights[slot] / sum - double{observed[slot]}));
    }
  }

  std::size_t kv_heads_;
  const KVCache* cache_;
  double* worst_;
  std::size_t* shown_;
  lethe::Probabilities<float> seen_{};
};

TEST_CASE("a policy that learns from queries is shown those that attended") {
  for (const char* architecture : {"llama", "qwen3"}) {
    const Model model = tiny(architecture, gguf::TensorType::Q8_0);
    Decoder decoder(model, 2);
    double worst = 0;
    std::size_t shown = 0;
    Sequence other = sequence_of(model);
    Sequence watched{.cache = {model.config(), CacheType::f32, 400}, .pruner = {}};
    watched.pruner = Pruner(QueryWatch(model.config(), watched.cache, worst, shown));
    decoder.prefill(other, some_tokens(20, 3));
    decoder.prefill(watched, some_tokens(90));
    const std::array<Sequence*, 2> batch{&other, &watched};
    for (std::size_t step = 0; step < 5; ++step) decoder.step(batch, some_tokens(2, step));
    CHECK(shown == 95 * model.config().layers);
    CHECK(worst < 1e-4);
  }
}

TEST_CASE("logits do not depend on the number of threads") {
  const Model model = tiny("llama", gguf::TensorType::Q4_1);
  const std::vector<float> one = prefill(model, 1, some_tokens(150));
  CHECK(one == prefill(model, 2, some_tokens(150)));
  CHECK(one == prefill(model, 5, some_tokens(150)));
}

TEST_CASE("a sequence's logits do not depend on the batch it is in") {
  const Model model = tiny("qwen3", gguf::TensorType::Q8_0);
  Decoder decoder(model, 2);
  constexpr std::size_t count = 5;
  std::vector<Sequence> batch, alone;
  std::vector<Sequence*> pointers;
  for (std::size_t i = 0; i < count; ++i) {
    batch.push_back(sequence_of(model, i % 2 == 0 ? "lethe" : "none"));
    alone.push_back(sequence_of(model, i % 2 == 0 ? "lethe" : "none"));
    decoder.prefill(batch[i], some_tokens(20 + 31 * i, i));
    decoder.prefill(alone[i], some_tokens(20 + 31 * i, i));
  }
  for (Sequence& sequence : batch) pointers.push_back(&sequence);
  for (std::size_t step = 0; step < 90; ++step) {
    const Tokens tokens = some_tokens(count, step);
    const std::span<const float> logits = decoder.step(pointers, tokens);
    const std::vector<float> together(logits.begin(), logits.end());
    for (std::size_t i = 0; i < count; ++i) {
      const std::span<const float> own = decoder.step(alone[i], tokens[i]);
      REQUIRE(std::equal(own.begin(), own.end(), &together[i * own.size()]));
    }
  }
}

TEST_CASE("a prompt in chunks gives what token by token gives") {
  const Model model = tiny("qwen2", gguf::TensorType::F16);
  const Tokens tokens = some_tokens(200);
  const std::vector<float> together = prefill(model, 2, tokens);
  Decoder decoder(model, 2);
  Sequence sequence = sequence_of(model);
  const std::size_t vocabulary = model.config().vocabulary;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::span<const float> logits = decoder.step(sequence, tokens[i]);
    const std::span<const float> row(&together[i * vocabulary], vocabulary);
    REQUIRE(largest_difference(logits, row) < 1e-3);
  }
  CHECK(sequence.position == tokens.size());
}

TEST_CASE("logits of the last token are those of all tokens") {
  const Model model = tiny("llama", gguf::TensorType::Q6_K);
  const std::vector<float> all = prefill(model, 2, some_tokens(100));
  Decoder decoder(model, 2);
  Sequence sequence = sequence_of(model);
  const std::span<const float> last = decoder.prefill(sequence, some_tokens(100));
  CHECK(std::equal(last.begin(), last.end(), all.end() - static_cast<std::ptrdiff_t>(last.size())));
}

TEST_CASE("under every policy no layer ever exceeds its bound, prompt included") {
  const Model model = tiny("llama", gguf::TensorType::Q4_0);
  for (const auto& [policy, label] : known_policies()) {
    if (policy == "none") continue;
    INFO(policy);
    Decoder decoder(model, 2);
    Sequence sequence = sequence_of(model, std::string(policy), 48);
    std::size_t rounds = 0;
    sequence.on_round = [&](const lethe::RoundStatistics& round) {
      CHECK(round.tokens_after <= 48);
      ++rounds;
    };
    decoder.prefill(sequence, some_tokens(150));
    for (std::size_t step = 0; step < 60; ++step) {
      decoder.step(sequence, some_tokens(1, step)[0]);
      for (std::size_t layer = 0; layer < sequence.cache.layers(); ++layer) {
        REQUIRE(sequence.cache.mean_size(layer) <= 48);
      }
    }
    CHECK(sequence.position == 210);
    CHECK(rounds > 0);
  }
}

TEST_CASE("under every policy a fork goes on as the sequence it came from") {
  const Model model = tiny("llama", gguf::TensorType::Q8_0);
  Decoder decoder(model, 2);
  for (const auto& [policy, label] : known_policies()) {
    INFO(policy);
    Sequence sequence = sequence_of(model, std::string(policy), 48);
    decoder.prefill(sequence, some_tokens(100));
    Sequence same = fork(sequence);
    Sequence different = fork(sequence);
    for (std::size_t step = 0; step < 40; ++step) {
      decoder.step(different, some_tokens(1, 1000 + step)[0]);
      const std::span<const float> logits = decoder.step(sequence, some_tokens(1, step)[0]);
      const std::vector<float> expected(logits.begin(), logits.end());
      const std::span<const float> forked = decoder.step(same, some_tokens(1, step)[0]);
      REQUIRE(std::equal(expected.begin(), expected.end(), forked.begin()));
    }
    CHECK(same.position == sequence.position);
    for (std::size_t layer = 0; layer < same.cache.layers(); ++layer)
      CHECK(same.cache.mean_size(layer) == sequence.cache.mean_size(layer));
  }
}

TEST_CASE("a policy that never prunes changes nothing") {
  const Model model = tiny("llama", gguf::TensorType::Q8_0);
  Decoder decoder(model, 2);
  Sequence pruned = sequence_of(model, "h2o", 400);
  const std::span<const float> logits = decoder.prefill(pruned, some_tokens(45), LogitsOf::all);
  CHECK(std::equal(logits.begin(), logits.end(), prefill(model, 2, some_tokens(45)).begin()));
}

// Attention of one layer in double precision, from what is in an f32 cache.
struct Slowly {
  std::vector<double> probabilities;
  std::vector<double> output;
};

Slowly attend_slowly(const KVCache& cache, std::size_t kv_head, const float* query,
                     std::size_t head_dim, std::size_t visible) {
  const auto row = [&](const std::byte* strip, std::size_t slot) {
    return reinterpret_cast<const float*>(strip + slot * cache.row_bytes());
  };
  Slowly out{std::vector<double>(visible), std::vector<double>(head_dim)};
  double sum = 0;
  for (std::size_t i = 0; i < visible; ++i) {
    double logit = 0;
    for (std::size_t c = 0; c < head_dim; ++c) {
      logit += double{query[c]} * double{row(cache.keys(0, kv_head), i)[c]};
    }
    sum += out.probabilities[i] = std::exp(logit);
  }
  for (std::size_t i = 0; i < visible; ++i) {
    out.probabilities[i] /= sum;
    for (std::size_t c = 0; c < head_dim; ++c) {
      out.output[c] += out.probabilities[i] * double{row(cache.values(0, kv_head), i)[c]};
    }
  }
  return out;
}

ModelConfig attention_config() {
  ModelConfig config;
  config.layers = 1;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 40;  // padded to 64 channels
  return config;
}

std::vector<float> padded_values(std::size_t rows, std::size_t used, std::size_t channels,
                                 unsigned seed) {
  std::vector<float> values = test::random_values(rows * channels, seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = i % channels < used ? values[i] * 0.4f : 0.0f;
  }
  return values;
}

void fill_randomly(KVCache& cache, std::size_t tokens) {
  cache.extend(0, tokens);
  const std::size_t size = cache.channels();
  const std::vector<float> rows = padded_values(tokens * cache.heads() * 2, 40, size, 5);
  for (std::size_t i = 0; i < tokens * cache.heads(); ++i) {
    cache.store(0, i % cache.heads(), i / cache.heads(), &rows[i * 2 * size],
                &rows[(i * 2 + 1) * size]);
  }
}

/// Drops the first tokens of the last head.
void shorten(KVCache& cache, std::size_t tokens) {
  const auto held = static_cast<std::uint32_t>(cache.size(0));
  std::vector<lethe::Slot> kept(held - tokens);
  std::iota(kept.begin(), kept.end(), static_cast<lethe::Slot>(tokens));
  const lethe::EvictionPlan plan{
      .head = static_cast<std::uint32_t>(cache.heads()) - 1, .tokens = held, .kept = kept};
  cache.apply({&plan, 1});
}

/// shorter: by so many tokens one head is.
void check_attention(std::size_t columns, std::size_t tokens, std::size_t shorter = 0) {
  const ModelConfig config = attention_config();
  ThreadPool pool(2);
  Attention attention(config, pool);
  KVCache cache(config, CacheType::f32, columns);
  fill_randomly(cache, columns);
  if (shorter != 0) shorten(cache, shorter);
  const std::size_t size = cache.channels();
  const std::vector<float> queries = padded_values(tokens * config.heads, 40, size, 6);
  std::vector<float> out(tokens * config.heads * config.head_dim);
  const AttentionTask task{&cache, tokens, 0, true};
  attention.run(0, {&task, 1}, queries.data(), out.data());
  const lethe::Probabilities<float> seen = attention.observed(0);
  REQUIRE(seen.columns == columns);
  for (std::size_t row = 0; row < tokens * config.heads; ++row) {
    const std::size_t token = row / config.heads, head = row % config.heads;
    const Slowly expected = attend_slowly(cache, head / 3, &queries[row * size], config.head_dim,
                                          cache.size(0, head / 3) - tokens + token + 1);
    const float* found = seen.data + head * seen.head_stride + token * seen.query_stride;
    for (std::size_t i = 0; i < expected.probabilities.size(); ++i) {
      REQUIRE_THAT(double{found[i]}, WithinAbs(expected.probabilities[i], 1e-5));
    }
    for (std::size_t c = 0; c < config.head_dim; ++c) {
      REQUIRE_THAT(double{out[row * config.head_dim + c]}, WithinAbs(expected.output[c], 1e-5));
    }
  }
}

TEST_CASE("attention over many chunks, and its probabilities, agree with double arithmetic") {
  check_attention(1, 1);
  check_attention(128, 1);
  check_attention(700, 1);
  check_attention(37, 37);
  check_attention(1100, 50);
}

TEST_CASE("heads that hold unequal counts attend to their own tokens") {
  check_attention(700, 1, 699);
  check_attention(700, 1, 333);
  check_attention(600, 40, 250);
  check_attention(60, 20, 40);
}

TEST_CASE("wrong use ends with a message") {
  const Model model = tiny("llama", gguf::TensorType::F32);
  Decoder decoder(model, 1);
  Sequence sequence = sequence_of(model);
  CHECK_THROWS_AS(decoder.prefill(sequence, Tokens{}), Error);
  CHECK_THROWS_AS(decoder.prefill(sequence, Tokens{64}), Error);
  CHECK_THROWS_AS(decoder.step(sequence, -1), Error);
  CHECK_THROWS_AS(decoder.prefill(sequence, some_tokens(401)), Error);
  CHECK_THROWS_AS(make_pruner("lru", {}, model.config()), Error);
  CHECK_THROWS_AS(make_pruner("lethe", {.budget = 4}, model.config()), Error);
  CHECK_THROWS_AS(make_pruner("criticalkv", {.budget = 64}, model.config()), Error);
  CHECK_THROWS_AS(make_pruner("h2o", {.budget = 64, .pinned = 64}, model.config()), Error);
}

namespace {

/// What making the policy complains of; empty when it can be made.
std::string complaint(const Model& model, const std::string& policy) {
  const PolicyOptions options{
      .budget = 64, .rope_frequencies = model.rope_frequencies(), .file = &model.file()};
  try {
    (void)make_pruner(policy, options, model.config());
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

/// Tokens that the first layer holds after a text under the policy.
std::size_t held(const Model& model, const std::string& policy) {
  Decoder decoder(model, 1);
  Sequence sequence = sequence_of(model, policy, 64);
  for (std::size_t i = 0; i < 64; ++i) decoder.step(sequence, some_tokens(1, i)[0]);
  decoder.step(sequence, 5);
  return sequence.cache.size(0);
}

}  // namespace

TEST_CASE("a policy takes the settings that follow its name") {
  const Model model = tiny("llama", gguf::TensorType::F32);
  // A round at the bound of 64 leaves a share of it free; then comes one more token.
  CHECK(held(model, "streaming") == 57);
  CHECK(held(model, "streaming:slack_ratio=0.25") == 49);
  CHECK(held(model, "h2o:recent_ratio=0.25:slack_ratio=0.5") == 33);
  CHECK(policy_label("lethe:decay=0.9:segments=32") == "Lethe (decay=0.9, segments=32)");
  CHECK(policy_label("lethe") == "Lethe");
}

TEST_CASE("settings that a policy does not have, or that are no numbers, are refused") {
  const Model model = tiny("llama", gguf::TensorType::F32);
  for (const auto& [policy, label] : known_policies()) {
    INFO(policy);
    const std::string name(policy);
    CHECK(complaint(model, name).empty());
    CHECK(complaint(model, name + ":colour=3").find("no setting colour") != std::string::npos);
  }
  CHECK(complaint(model, "lethe:gamma=0.9").find("decay, sparsity_ratio") != std::string::npos);
  CHECK(complaint(model, "none:decay=1").find("it has none") != std::string::npos);
  CHECK(complaint(model, "lethe:decay=0").find("or other settings (lethe: decay") !=
        std::string::npos);
  for (const char* wrong : {"lethe:", "lethe:decay", "lethe:decay=", "lethe:=1", "lethe:decay=high",
                            "lethe:decay=0.9x", "lethe:segments=-1", "lethe:segments=1.5"}) {
    INFO(wrong);
    CHECK(complaint(model, wrong).find("a number, as in") != std::string::npos);
  }
  CHECK(complaint(model, "lethe:decay=0.9:decay=0.8").find("twice") != std::string::npos);
}

TEST_CASE("a thread pool stops while its threads are just waking or going to sleep") {
  for (int i = 0; i < 3000; ++i) {
    ThreadPool pool(3);
    std::atomic<std::size_t> done = 0;
    for (int job = 0; job < 1 + i % 3; ++job)
      pool.parallel_for(2, 1, [&](std::size_t first, std::size_t last) { done += last - first; });
    REQUIRE(done == 2 * (1 + static_cast<std::size_t>(i) % 3));
  }
}

TEST_CASE("a thread pool covers every index once, whatever the ranges") {
  for (const unsigned threads : {1u, 2u, 4u}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (std::size_t count = 0; count < 300; ++count) {
      std::vector<int> seen(count);
      pool.parallel_for(count, 1 + count % 7, [&](std::size_t first, std::size_t last) {
        for (std::size_t i = first; i < last; ++i) ++seen[i];
      });
      REQUIRE(std::count(seen.begin(), seen.end(), 1) == static_cast<std::ptrdiff_t>(count));
    }
  }
}

}  // namespace
