#include <algorithm>
#include <cstdint>
#include <lethe/layerkv/thread_copier.hpp>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "catch.hpp"
#include "error.hpp"
#include "machine.hpp"
#include "prompt_queue.hpp"
#include "real_run.hpp"

using namespace serving;
namespace layerkv = lethe::layerkv;

namespace {

/// Copies at once, now and then falsely or not at all.
class FailingCopier {
 public:
  explicit FailingCopier(unsigned in_a_thousand) : share_(in_a_thousand) {}

  std::optional<layerkv::CopyTicket> submit(std::span<const layerkv::ByteCopy> batch,
                                            layerkv::Route) noexcept {
    if (random_() % 5 == 0) return std::nullopt;
    has_failed_ = random_() % 1000 < share_;
    failures += has_failed_ ? 1 : 0;
    for (const layerkv::ByteCopy& copy : batch) {
      if (has_failed_)
        std::fill_n(copy.target, copy.bytes, std::byte{0x7F});
      else
        std::copy_n(copy.source, copy.bytes, copy.target);
    }
    states_.push_back(has_failed_);
    return states_.size() - 1;
  }
  layerkv::CopyState poll(layerkv::CopyTicket ticket) noexcept { return wait(ticket); }
  layerkv::CopyState wait(layerkv::CopyTicket ticket) noexcept {
    return states_[ticket] ? layerkv::CopyState::failed : layerkv::CopyState::done;
  }

  std::size_t failures = 0;

 private:
  unsigned share_;
  std::mt19937 random_{11};
  bool has_failed_ = false;
  std::vector<bool> states_;
};
static_assert(layerkv::Copier<FailingCopier>);

/// A queue that arrives faster than it can be served.
PromptQueue queue_of(const decoder::Workbench& bench, std::uint64_t seed) {
  return make_queue(bench, "",
                    {.requests = 10,
                     .rate = 2000,
                     .shortest_input = 20,
                     .longest_input = 150,
                     .shortest_output = 5,
                     .longest_output = 40,
                     .seed = seed});
}

RealSettings settings_of(std::size_t blocks, std::size_t host_blocks) {
  RealSettings settings;
  settings.device_blocks = blocks;
  settings.host_blocks = host_blocks;
  settings.engine = {
      .batch_tokens = 100, .sequences = 6, .has_prefix_cache = false, .schedules_ahead = false};
  settings.minds_slack = false;
  settings.costs = {.prefill = {1e-4, 1e-5, 1e-9},
                    .decode = {1e-4, 1e-5, 1e-9},
                    .copy = {.per_copy = 0, .per_fragment = 0, .per_byte = 1e-9}};
  return settings;
}

/// The embedded model's shape; its step times are looked at by no test.
Profile profile_of(const decoder::Workbench& bench, double link_bytes) {
  Profile profile = test::machine(0);
  profile.model.layers = bench.model.config().layers;
  profile.model.kv_heads = bench.model.config().kv_heads;
  profile.model.head_width =
      decoder::PagedCache(bench.model.config(), bench.cache_type, 16).channels();
  profile.link_bytes = link_bytes;
  return profile;
}

template <class Copier>
RunResults serve(decoder::Workbench& bench, const PromptQueue& queue, const RealSettings& settings,
                 Copier& copier, Texts& texts) {
  texts = queue.prompts;
  return serve_really(bench, queue.trace, profile_of(bench, 2e8), settings, copier, texts);
}

Texts unlimited(decoder::Workbench& bench, const PromptQueue& queue) {
  layerkv::ThreadCopier copier({.threads = 1});
  Texts texts;
  const RunResults results = serve(bench, queue, settings_of(200, 0), copier, texts);
  CHECK(results.preemptions == 0);
  return texts;
}

/// One in which most reach a bound of 64 tokens while they decode.
PromptQueue growing_queue(const decoder::Workbench& bench, std::uint64_t seed) {
  return make_queue(bench, "",
                    {.requests = 10,
                     .rate = 2000,
                     .shortest_input = 20,
                     .longest_input = 90,
                     .shortest_output = 20,
                     .longest_output = 60,
                     .seed = seed});
}

/// The same, each request with a pruner of its own.
RealSettings pruned_settings(const decoder::Workbench& bench, const PromptQueue& queue,
                             std::size_t blocks, std::size_t host_blocks, std::size_t bound,
                             const char* pruner = "lethe") {
  RealSettings settings = settings_of(blocks, host_blocks);
  settings.pruned = pruned_run(bench, pruner, bound, longest_request(queue.trace), settings.engine);
  return settings;
}

/// What each request says when it is pruned with nobody beside it and blocks without end.
Texts alone(decoder::Workbench& bench, const PromptQueue& queue, const RealSettings& settings) {
  Texts texts;
  for (std::size_t i = 0; i < queue.prompts.size(); ++i) {
    PromptQueue one;
    one.trace.requests = {queue.trace.requests[i]};
    one.prompts = {queue.prompts[i]};
    RealSettings ample = settings;
    ample.device_blocks = 200;
    ample.host_blocks = 0;
    layerkv::ThreadCopier copier({.threads = 1});
    Texts text;
    serve(bench, one, ample, copier, text);
    texts.push_back(text.front());
  }
  return texts;
}

}  // namespace

TEST_CASE("too few blocks, and layers on the host, change no token") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    INFO("seed " << seed);
    const PromptQueue queue = queue_of(bench, seed);
    const Texts expected = unlimited(bench, queue);
    for (std::size_t i = 0; i < expected.size(); ++i)
      REQUIRE(expected[i].size() == queue.prompts[i].size() + queue.trace.requests[i].output);
    layerkv::ThreadCopier copier({.threads = 2, .batches = 128, .batch_copies = 1024});
    Texts texts;
    const RunResults whole = serve(bench, queue, settings_of(14, 0), copier, texts);
    CHECK(whole.preemptions > 0);
    CHECK(texts == expected);
    const RunResults layered = serve(bench, queue, settings_of(14, 60), copier, texts);
    CHECK(layered.link_bytes > 0);
    CHECK(texts == expected);
  }
}

TEST_CASE("copies that fail lose no request, no token and no block") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const PromptQueue queue = queue_of(bench, 5);
  const Texts expected = unlimited(bench, queue);
  FailingCopier copier(700);
  Texts texts;
  const RunResults results = serve(bench, queue, settings_of(14, 60), copier, texts);
  CHECK(copier.failures > 20);
  CHECK(texts == expected);
  for (const Served& served : results.requests) CHECK(served.end >= served.first);
}

TEST_CASE("a request larger than the device is refused, and the others are served") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const PromptQueue queue = queue_of(bench, 1);
  layerkv::ThreadCopier copier({.threads = 1, .batches = 128, .batch_copies = 1024});
  for (const std::size_t host_blocks : {0u, 60u}) {
    Texts texts;
    const RunResults results = serve(bench, queue, settings_of(8, host_blocks), copier, texts);
    std::size_t refused = 0;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const bool fits =
          (queue.trace.requests[i].input + queue.trace.requests[i].output + 15) / 16 <= 8;
      CHECK(results.requests[i].is_refused == !fits);
      CHECK((texts[i].size() > queue.prompts[i].size()) == fits);
      refused += fits ? 0 : 1;
    }
    CHECK(refused > 0);
  }
}

TEST_CASE("a pruned request says what it says alone, whoever is beside it") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const char* const pruner = GENERATE("lethe", "h2o", "knorm", "random", "growpage");
  std::size_t preemptions = 0;
  for (const std::uint64_t seed : {3u, 4u}) {
    INFO(pruner << ", seed " << seed);
    const PromptQueue queue = growing_queue(bench, seed);
    // A round leaves no whole blocks.
    RealSettings settings = pruned_settings(bench, queue, 10, 0, 55, pruner);
    const Texts expected = alone(bench, queue, settings);
    CHECK(expected != unlimited(bench, queue));
    layerkv::ThreadCopier copier({.threads = 2, .batches = 128, .batch_copies = 1024});
    Texts texts;
    const RunResults whole = serve(bench, queue, settings, copier, texts);
    CHECK(whole.dropped_tokens > 0);
    preemptions += whole.preemptions;
    CHECK(texts == expected);
    settings.host_blocks = 60;
    const RunResults layered = serve(bench, queue, settings, copier, texts);
    CHECK(layered.dropped_tokens > 0);
    CHECK(layered.link_bytes > 0);
    CHECK(texts == expected);
  }
  CHECK(preemptions > 0);
}

TEST_CASE("copies that fail change nothing of what pruned requests say") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const PromptQueue queue = growing_queue(bench, 5);
  const RealSettings settings = pruned_settings(bench, queue, 10, 60, 64);
  FailingCopier copier(700);
  Texts texts;
  const RunResults results = serve(bench, queue, settings, copier, texts);
  CHECK(copier.failures > 20);
  CHECK(results.dropped_tokens > 0);
  CHECK((texts == alone(bench, queue, settings)));
}

TEST_CASE("a pruner with nothing to drop changes no token") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const PromptQueue queue = queue_of(bench, 4);
  for (const std::size_t host_blocks : {0u, 60u}) {
    layerkv::ThreadCopier copier({.threads = 1, .batches = 128, .batch_copies = 1024});
    Texts texts;
    const RunResults results =
        serve(bench, queue, pruned_settings(bench, queue, 14, host_blocks, 1000), copier, texts);
    CHECK(results.dropped_tokens == 0);
    CHECK(texts == unlimited(bench, queue));
  }
}

TEST_CASE("pruning serves what does not fit as a whole") {
  decoder::Workbench bench({.file = {}, .threads = 1});
  const PromptQueue queue = queue_of(bench, 1);
  layerkv::ThreadCopier copier({.threads = 1, .batches = 128, .batch_copies = 1024});
  Texts texts;
  // The longest request takes more than the four blocks of a bound of 64 tokens.
  REQUIRE(longest_request(queue.trace) > 64);
  const RunResults results =
      serve(bench, queue, pruned_settings(bench, queue, 4, 0, 64), copier, texts);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    CHECK_FALSE(results.requests[i].is_refused);
    CHECK(texts[i].size() == queue.prompts[i].size() + queue.trace.requests[i].output);
  }
}

TEST_CASE("there is no pruning without a pruner, or within too small a bound") {
  const decoder::Workbench bench({.file = {}, .threads = 1});
  CHECK_THROWS_AS(pruned_run(bench, "none", 64, 100, {}), decoder::Error);
  CHECK_THROWS_AS(pruned_run(bench, "first come", 64, 100, {}), decoder::Error);
  CHECK_THROWS_AS(pruned_run(bench, "adakv", 64, 100, {}), decoder::Error);
  CHECK_THROWS_AS(pruned_run(bench, "lethe", 2, 100, {}), decoder::Error);
}

TEST_CASE("a long prompt is not left behind by answers that take a part of each step") {
  const decoder::Workbench bench({.file = {}, .threads = 1});
  Trace trace;
  for (std::size_t i = 0; i < 5; ++i)
    trace.requests.push_back({.arrival = 0, .input = 20, .output = 200});
  trace.requests.push_back({.arrival = 1e-3, .input = 100, .output = 5});
  RealSettings settings = settings_of(200, 0);
  settings.engine.batch_tokens = 64;
  settings.pruned = pruned_run(bench, "lethe", 128, 220, settings.engine);
  const RunResults results = simulate_run(trace, profile_of(bench, 2e8), settings);
  for (std::size_t i = 0; i < 5; ++i)
    CHECK(results.requests.back().first < results.requests[i].end);
}

TEST_CASE("a prompt comes in pieces that end at the same places, an answer token by token") {
  const RoundSteps rounds{.early_piece = 64, .late_piece = 16, .first_round = 100};
  std::vector<std::size_t> pieces;
  for (std::size_t at = 0; at < 140; at += pieces.back()) pieces.push_back(rounds.tokens(at, 138));
  CHECK(pieces == std::vector<std::size_t>{64, 36, 16, 16, 6, 1, 1});
}
