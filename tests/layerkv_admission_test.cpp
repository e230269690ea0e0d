// Who is let in: slack, blocks and limits against a naive rule, and what never happens.
#include "lethe/layerkv/admission.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <deque>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "lethe/layerkv/output_length.hpp"
#include "naive/random.hpp"

namespace layerkv = lethe::layerkv;
using layerkv::AdmissionDecision;
using layerkv::AdmissionStop;
using layerkv::AdmittedRequest;
using layerkv::CacheShape;
using layerkv::DecodingRequest;
using layerkv::FreeBlocks;
using layerkv::LayerwiseAdmission;
using layerkv::LayerwiseConfig;
using layerkv::Reserve;
using layerkv::Situation;
using layerkv::WaitingRequest;
using layerkv::WholeRequestAdmission;
using layerkv::WholeRequestConfig;
using naive::Random;

namespace {

// Not rules, not queues.
struct Undecided {};
struct VoidRule {
  void decide(const Situation&, std::span<const WaitingRequest>, std::span<AdmittedRequest>) const;
};
static_assert(!layerkv::AdmissionRule<Undecided>);
static_assert(!layerkv::AdmissionRule<VoidRule>);
static_assert(!layerkv::WaitingQueue<std::vector<int>>);
static_assert(layerkv::WaitingQueue<std::deque<WaitingRequest>>);

constexpr CacheShape small{.layers = 4, .token_bytes = 64, .block_tokens = 16};
constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

double number(Random& random, double most) { return most * static_cast<double>(random.unit()); }

/// A situation and its queue, drawn so that every limit is met now and then.
struct Drawn {
  explicit Drawn(std::uint64_t seed) : random(seed) {
    shape = {.layers = random.between(1, 12),
             .token_bytes = random.between(16, 4096),
             .block_tokens = random.between(1, 20)};
    for (std::size_t i = random.below(6); i-- != 0;) {
      decoding.push_back({.generated = random.below(300),
                          .decoding_seconds = number(random, 40),
                          .seconds_per_token = number(random, 0.25),
                          .remaining = random.below(300)});
    }
    for (std::size_t i = random.below(12); i-- != 0;) queue.push_back(request());
    situation.costs = {
        .prefill = {number(random, 1e-2), number(random, 1e-2), number(random, 1e-5)},
        .copy = {0, number(random, 1e-3), number(random, 3e-6)}};
    situation.all = {random.below(800), random.chance(20) ? 0 : random.below(800)};
    situation.free = {random.below(situation.all.device + 1), random.below(situation.all.host + 1)};
    if (random.chance(20)) situation.requests = random.below(4);
    if (random.chance(20)) situation.tokens = random.below(300);
    if (random.chance(20)) situation.prefill_seconds = number(random, 2);
    if (random.chance(20)) situation.link_share = number(random, 1);
    situation.now = 50;
    admitted.resize(random.chance(20) ? random.below(4) : 20);
  }

  WaitingRequest request() {
    WaitingRequest drawn{.tokens = random.below(200), .arrival = number(random, 50)};
    if (random.chance(30)) drawn.cached = random.below(drawn.tokens + 10);
    if (random.chance(50)) drawn.most_tokens = random.between(1, 300);
    return drawn;
  }

  /// As the rule sees it; spans into this object.
  [[nodiscard]] Situation seen() const {
    Situation situation_now = situation;
    situation_now.decoding = decoding;
    return situation_now;
  }

  Random random;
  CacheShape shape;
  std::vector<DecodingRequest> decoding;
  std::vector<WaitingRequest> queue;
  Situation situation;
  std::vector<AdmittedRequest> admitted;
};

std::size_t naive_blocks(const CacheShape& shape, const WaitingRequest& request, Reserve reserve) {
  std::size_t tokens = request.tokens;
  if (request.most_tokens != 0 &&
      (reserve == Reserve::most_tokens || request.most_tokens < tokens)) {
    tokens = request.most_tokens;
  }
  std::size_t blocks = 0;
  for (std::size_t first = 0; first < tokens; first += shape.block_tokens) {
    const bool shared = first + shape.block_tokens <= std::min(request.cached, tokens);
    if (!shared) ++blocks;
  }
  return blocks;
}

layerkv::PrefillWork naive_work(const WaitingRequest& request) {
  layerkv::PrefillWork work{request.tokens, 0};
  while (work.tokens > 1 && work.context < request.cached) {
    --work.tokens;
    ++work.context;
  }
  return work;
}

/// The fewest layers that fit, and the blocks they take, by trying all.
std::optional<AdmittedRequest> naive_place(const LayerwiseConfig& config,
                                           const Situation& situation,
                                           const WaitingRequest& request, const FreeBlocks& free) {
  const CacheShape& shape = config.shape;
  const std::size_t blocks = naive_blocks(shape, request, config.reserve);
  const std::size_t hidden = layerkv::retained_layers(
      situation.costs, shape,
      {naive_work(request), config.chunk, config.fetches_chunks, situation.link_share});
  std::optional<AdmittedRequest> found;
  for (std::size_t x = hidden; x <= shape.layers; ++x) {
    const std::size_t away = shape.layers - x;
    const FreeBlocks taken{(x + std::min(config.staging, away)) * blocks, away * blocks};
    if (taken.device > free.device || taken.host > free.host) continue;
    if (!found) found = AdmittedRequest{{x, x}, taken, 0};
    found->layers.most = x;
  }
  return found;
}

double naive_limit(const LayerwiseConfig& config, const std::vector<DecodingRequest>& decoding) {
  double limit = layerkv::never;
  for (const DecodingRequest& d : decoding) {
    const double all = static_cast<double>(d.generated) + static_cast<double>(d.remaining);
    const double spent =
        d.decoding_seconds + d.seconds_per_token * static_cast<double>(d.remaining);
    const double slack = config.tpot * all - spent;
    if (config.tpot > 0 && (config.heeds_missed || slack >= 0)) limit = std::min(limit, slack);
  }
  return limit;
}

/// The rule as it is told: one after the other, each limit in turn.
AdmissionDecision naive_decide(const LayerwiseConfig& config, const Drawn& drawn,
                               std::vector<AdmittedRequest>& admitted) {
  const Situation& situation = drawn.situation;
  AdmissionDecision decision;
  decision.slack = naive_limit(config, drawn.decoding);
  decision.prefill_seconds = situation.prefill_seconds;
  FreeBlocks free = situation.free;
  std::size_t tokens = 0;
  for (const WaitingRequest& request : drawn.queue) {
    const bool waited = decision.admitted == 0 && config.most_wait < layerkv::never &&
                        situation.now - request.arrival > config.most_wait;
    const auto work = naive_work(request);
    const double seconds = situation.costs.prefill.seconds(work, config.chunk);
    const auto place = naive_place(config, situation, request, free);
    const bool ever = naive_place(config, situation, request, situation.all).has_value();
    decision.stop = AdmissionStop::queue_empty;
    if (decision.prefill_seconds + seconds > decision.slack && !waited) {
      decision.stop = AdmissionStop::slack;
    }
    if (!place) decision.stop = ever ? AdmissionStop::blocks : AdmissionStop::too_large;
    if (decision.admitted >= drawn.admitted.size()) decision.stop = AdmissionStop::list_full;
    if (tokens >= situation.tokens) decision.stop = AdmissionStop::tokens;
    if (decision.admitted >= situation.requests) decision.stop = AdmissionStop::requests;
    if (decision.stop != AdmissionStop::queue_empty) return decision;
    admitted.push_back(*place);
    admitted.back().prefill_seconds = seconds;
    free.device -= place->blocks.device;
    free.host -= place->blocks.host;
    tokens += work.tokens;
    decision.prefill_seconds += seconds;
    ++decision.admitted;
  }
  decision.stop = AdmissionStop::queue_empty;
  return decision;
}

LayerwiseConfig random_config(Drawn& drawn) {
  Random& random = drawn.random;
  LayerwiseConfig config{.shape = drawn.shape};
  config.tpot = random.chance(20) ? 0 : 0.2;
  config.heeds_missed = random.chance(60);
  if (random.chance(30)) config.most_wait = number(random, 60);
  if (random.chance(40)) config.chunk = random.between(10, 100);
  config.fetches_chunks = random.chance(50);
  config.staging = random.between(1, drawn.shape.layers);
  config.reserve = random.chance(50) ? Reserve::prompt : Reserve::most_tokens;
  return config;
}

/// A queue that counts how often it is looked at.
struct CountingQueue {
  std::size_t count;
  WaitingRequest each;
  mutable std::size_t looks = 0;

  [[nodiscard]] std::size_t size() const { return count; }
  [[nodiscard]] WaitingRequest operator[](std::size_t) const {
    ++looks;
    return each;
  }
};

/// Room for everybody, and one decoding request with a second of slack.
struct Calm {
  std::vector<DecodingRequest> decoding{
      {.generated = 100, .decoding_seconds = 4, .seconds_per_token = 0.05, .remaining = 0}};
  Situation situation{
      .costs = {.prefill = {0, 1e-3, 0}}, .free = {1000000, 1000000}, .all = {1000000, 1000000}};
  std::vector<AdmittedRequest> admitted = std::vector<AdmittedRequest>(64);

  Situation seen(double tpot_slack) {
    decoding[0].decoding_seconds = 20 - tpot_slack;
    Situation now = situation;
    now.decoding = decoding;
    return now;
  }
};

template <class Config>
std::string refusal(const Config& config) {
  try {
    if constexpr (std::same_as<Config, LayerwiseConfig>) {
      LayerwiseAdmission rule(config);
    } else {
      WholeRequestAdmission rule(config);
    }
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("the layer-wise rule lets in whom the naive one does, in the same way") {
  std::vector<std::size_t> stops(7, 0);
  std::size_t partly = 0;
  for (std::uint64_t seed = 1; seed <= 6000; ++seed) {
    Drawn drawn(seed);
    const LayerwiseConfig config = random_config(drawn);
    const LayerwiseAdmission rule(config);
    std::vector<AdmittedRequest> expected;
    const AdmissionDecision sought = naive_decide(config, drawn, expected);
    const std::span<const WaitingRequest> queue = drawn.queue;
    const AdmissionDecision decision = rule.decide(drawn.seen(), queue, drawn.admitted);
    INFO("seed " << seed);
    CHECK(decision == sought);
    drawn.admitted.resize(decision.admitted);
    CHECK(drawn.admitted == expected);
    ++stops[static_cast<std::size_t>(decision.stop)];
    for (const auto& a : expected) partly += a.layers.fewest < drawn.shape.layers ? 1u : 0u;
  }
  for (const std::size_t count : stops) CHECK(count > 100);
  CHECK(partly > 1000);
}

TEST_CASE("whole requests are let in while all of their layers fit") {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    Drawn drawn(seed);
    WholeRequestConfig config{.shape = drawn.shape, .kept_free = drawn.random.below(50)};
    if (drawn.random.chance(50)) config.reserve = Reserve::most_tokens;
    const Situation situation = drawn.seen();
    const auto decision =
        WholeRequestAdmission(config).decide(situation, drawn.queue, drawn.admitted);
    std::size_t free = situation.free.device;
    std::size_t tokens = 0;
    std::size_t count = 0;
    for (const WaitingRequest& request : drawn.queue) {
      const std::size_t need =
          drawn.shape.layers * naive_blocks(drawn.shape, request, config.reserve);
      const bool room = need == 0 || need + config.kept_free <= free;
      if (count == situation.requests || tokens >= situation.tokens ||
          count == drawn.admitted.size() || !room) {
        break;
      }
      CHECK(drawn.admitted[count].blocks == FreeBlocks{need, 0});
      CHECK(drawn.admitted[count].layers ==
            layerkv::LayerRange{drawn.shape.layers, drawn.shape.layers});
      free -= need;
      tokens += naive_work(request).tokens;
      ++count;
    }
    INFO("seed " << seed);
    CHECK(decision.admitted == count);
    CHECK(decision.slack == layerkv::never);
  }
}

TEST_CASE("slack is the published formula") {
  // 0.2 (100 + 50) - (15 + 0.05 x 50)
  CHECK_THAT(layerkv::slack({100, 15, 0.05, 50}, 0.2), WithinRel(12.5, 1e-12));
  CHECK(layerkv::slack({0, 0, 0, 0}, 0.2) == 0);
  CHECK(layerkv::slack({10, 5, 0.1, 0}, 0.2) < 0);
}

TEST_CASE("prefills in all take no longer than the least slack") {
  Calm calm;
  const LayerwiseAdmission rule({.shape = small});
  const std::vector<WaitingRequest> queue(50, {.tokens = 100});
  // 0.1 s each: ten of them in a second, none in less than one's time.
  const auto admitted = [&](double slack) {
    return rule.decide(calm.seen(slack), queue, calm.admitted).admitted;
  };
  CHECK(admitted(1.05) == 10);
  CHECK(admitted(0.09) == 0);
  CHECK(admitted(-1) == 0);
  CHECK(admitted(100) == 50);
  calm.situation.prefill_seconds = 0.5;
  CHECK(admitted(1.05) == 5);
  // With nobody to delay, everybody begins.
  CHECK(rule.decide(calm.situation, queue, calm.admitted).admitted == 50);
}

TEST_CASE("a layer-wise rule lets in a prompt that does not fit as a whole") {
  Calm calm;
  calm.situation.free = {3 * 7, 1000};
  const std::vector<WaitingRequest> queue(1, {.tokens = 100});
  const auto whole =
      WholeRequestAdmission({.shape = small}).decide(calm.situation, queue, calm.admitted);
  CHECK(whole.admitted == 0);
  CHECK(whole.stop == AdmissionStop::blocks);
  const auto layers =
      LayerwiseAdmission({.shape = small}).decide(calm.situation, queue, calm.admitted);
  CHECK(layers.admitted == 1);
  CHECK(calm.admitted[0].layers == layerkv::LayerRange{0, 1});
  CHECK(calm.admitted[0].blocks == FreeBlocks{2 * 7, 4 * 7});
}

TEST_CASE("a pruner's bound is all that a long prompt needs") {
  Calm calm;
  calm.situation.all = calm.situation.free = {4 * 16, 0};
  std::vector<WaitingRequest> queue(1, {.tokens = 100000});
  const WholeRequestAdmission whole({.shape = small});
  CHECK(whole.decide(calm.situation, queue, calm.admitted).stop == AdmissionStop::too_large);
  queue[0].most_tokens = 256;
  CHECK(whole.decide(calm.situation, queue, calm.admitted).admitted == 1);
  CHECK(
      LayerwiseAdmission({.shape = small}).decide(calm.situation, queue, calm.admitted).admitted ==
      1);
}

TEST_CASE("a request that may grow is let in when its whole growth is free, if so asked") {
  Calm calm;
  calm.situation.free = {4 * 10, 0};
  const std::vector<WaitingRequest> queue(1, {.tokens = 100, .most_tokens = 200});
  const auto admitted = [&](Reserve reserve) {
    return WholeRequestAdmission({.shape = small, .reserve = reserve})
        .decide(calm.situation, queue, calm.admitted)
        .admitted;
  };
  CHECK(admitted(Reserve::prompt) == 1);
  CHECK(admitted(Reserve::most_tokens) == 0);
}

TEST_CASE("one first in line that has waited long enough begins whatever the slack") {
  Calm calm;
  const LayerwiseAdmission patient({.shape = small});
  const LayerwiseAdmission bounded({.shape = small, .most_wait = 3});
  const std::vector<WaitingRequest> queue(5, {.tokens = 100, .arrival = 10});
  const auto admitted = [&](const LayerwiseAdmission& rule, double now) {
    Situation situation = calm.seen(-5);
    situation.now = now;
    return rule.decide(situation, queue, calm.admitted).admitted;
  };
  CHECK(admitted(patient, 1e9) == 0);
  CHECK(admitted(bounded, 13) == 0);
  CHECK(admitted(bounded, 13.5) == 1);
  // A clock that jumps back or breaks makes nobody overdue.
  CHECK(admitted(bounded, -1e9) == 0);
  CHECK(admitted(bounded, std::nan("")) == 0);
  // Blocks are still needed.
  calm.situation.free = {0, 0};
  CHECK(admitted(bounded, 13.5) == 0);
}

TEST_CASE("under a slack below 0 for ever, the wait ends with the request that is late") {
  // One request is far behind its target. Nobody begins until it ends; then everybody may.
  Calm calm;
  const LayerwiseAdmission rule({.shape = small});
  const std::vector<WaitingRequest> queue(3, {.tokens = 100});
  for (int step = 0; step < 1000; ++step) {
    CHECK(rule.decide(calm.seen(-50), queue, calm.admitted).admitted == 0);
  }
  calm.decoding.clear();
  Situation empty = calm.situation;
  empty.decoding = calm.decoding;
  CHECK(rule.decide(empty, queue, calm.admitted).admitted == 3);
  // Or it is given up, and the others' slack decides.
  Calm behind;
  behind.decoding.push_back({.generated = 1, .decoding_seconds = 100});
  const LayerwiseAdmission gives_up({.shape = small, .heeds_missed = false});
  CHECK(rule.decide(behind.seen(0.15), queue, behind.admitted).admitted == 0);
  CHECK(gives_up.decide(behind.seen(0.15), queue, behind.admitted).admitted == 1);
}

TEST_CASE("of ten thousand that wait, only those let in and one more are looked at") {
  Calm calm;
  const CountingQueue queue{10000, {.tokens = 100, .arrival = 0}};
  const auto looks = [&](const auto& rule, const Situation& situation) {
    queue.looks = 0;
    const std::size_t admitted = rule.decide(situation, queue, calm.admitted).admitted;
    CHECK(queue.looks <= admitted + 1);
    return admitted;
  };
  CHECK(looks(LayerwiseAdmission({.shape = small}), calm.seen(0.55)) == 5);
  CHECK(looks(LayerwiseAdmission({.shape = small}), calm.seen(-1)) == 0);
  CHECK(looks(LayerwiseAdmission({.shape = small}), calm.situation) == 64);
  CHECK(looks(WholeRequestAdmission({.shape = small}), calm.situation) == 64);
  calm.situation.free = {0, 0};
  CHECK(looks(WholeRequestAdmission({.shape = small}), calm.situation) == 0);
}

TEST_CASE("a first in line that does not fit is not overtaken") {
  Calm calm;
  calm.situation.free = {4 * 10, 0};
  std::vector<WaitingRequest> queue(3, {.tokens = 16});
  queue[0].tokens = 1000;
  const auto decision =
      LayerwiseAdmission({.shape = small}).decide(calm.situation, queue, calm.admitted);
  CHECK(decision.admitted == 0);
  CHECK(decision.stop == AdmissionStop::blocks);
}

TEST_CASE("requests of no tokens and of absurdly many do not break the rule") {
  Calm calm;
  std::vector<WaitingRequest> queue(1);
  const LayerwiseAdmission rule({.shape = small});
  CHECK(rule.decide(calm.situation, queue, calm.admitted).admitted == 1);
  CHECK(calm.admitted[0].blocks == FreeBlocks{});
  queue[0] = {.tokens = unlimited, .cached = unlimited, .most_tokens = unlimited};
  CHECK(rule.decide(calm.situation, queue, calm.admitted).admitted == 1);
  CHECK(calm.admitted[0].blocks == FreeBlocks{2, 4});
  queue[0] = {.tokens = unlimited};
  CHECK(rule.decide(calm.situation, queue, calm.admitted).stop == AdmissionStop::too_large);
}

TEST_CASE("settings that cannot be are refused by name") {
  const auto begins = [](const std::string& message, const std::string& start) {
    CHECK(message.substr(0, start.size()) == start);
  };
  LayerwiseConfig bad{.shape = small};
  bad.shape.layers = 0;
  begins(refusal(bad), "lethe: layers = 0: ");
  begins(refusal(WholeRequestConfig{.shape = bad.shape}), "lethe: layers = 0: ");
  begins(refusal(LayerwiseConfig{.shape = small, .tpot = -1}), "lethe: tpot = -1.000000: ");
  begins(refusal(LayerwiseConfig{.shape = small, .tpot = std::nan("")}), "lethe: tpot = nan: ");
  begins(refusal(LayerwiseConfig{.shape = small, .most_wait = -1}),
         "lethe: most_wait = -1.000000: ");
  begins(refusal(LayerwiseConfig{.shape = small, .staging = 0}), "lethe: staging = 0: ");
  begins(refusal(LayerwiseConfig{.shape = small, .staging = 5}), "lethe: staging = 5: ");
}
