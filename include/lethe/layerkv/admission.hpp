/// Which waiting prompts may begin: the AdmissionRule concept, LayerKV's rule, and vLLM's.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "lethe/config.hpp"
#include "lethe/layerkv/costs.hpp"
#include "lethe/layerkv/placement.hpp"

namespace lethe::layerkv {

/// A request that decodes now.
struct DecodingRequest {
  /// Output tokens so far, and seconds since the first of them came.
  std::size_t generated = 0;
  double decoding_seconds = 0;
  /// Seconds that a token takes now.
  double seconds_per_token = 0;
  /// Output tokens still to come: OutputLengths::predict(generated), less generated. Its at_least
  /// is the cautious edge while tokens come faster than the target, the paper's case.
  std::size_t remaining = 0;
};

/// A request that waits.
struct WaitingRequest {
  /// The prompt.
  std::size_t tokens = 0;
  /// Of these, what a shared prefix already holds on the device.
  std::size_t cached = 0;
  /// The most tokens a layer will ever hold for it: a pruner's bound(layer), or the prompt and the
  /// longest output. 0: not known.
  std::size_t most_tokens = 0;
  /// When it came, on the clock of Situation::now.
  double arrival = 0;
};

/// What an engine knows when it decides; the same numbers on every rank, so that all decide alike.
struct Situation {
  std::span<const DecodingRequest> decoding{};
  Costs costs{};
  /// Blocks that may be given away now, and those of an empty machine: of several ranks, the
  /// fewest.
  FreeBlocks free{};
  FreeBlocks all{};
  /// Requests, and prompt tokens, that may still begin now. The last prompt may exceed the tokens:
  /// it comes in chunks.
  std::size_t requests = std::numeric_limits<std::size_t>::max();
  std::size_t tokens = std::numeric_limits<std::size_t>::max();
  /// Seconds of prefill that were admitted earlier and are still to come.
  double prefill_seconds = 0;
  double now = 0;
  /// What collectives leave of the link to the host; see link_share().
  double link_share = 1;
};

/// A request let in.
struct AdmittedRequest {
  /// How many layers the device must and may keep, by the blocks free at its turn: those let in
  /// after it take of the same.
  LayerRange layers{};
  /// Blocks taken with the fewest layers, those included that stand while layers are copied away.
  FreeBlocks blocks{};
  double prefill_seconds = 0;

  bool operator==(const AdmittedRequest&) const = default;
};

/// Why no more were let in.
enum class AdmissionStop : std::uint8_t {
  /// All are in.
  queue_empty,
  /// The caller's list of admitted requests is full.
  list_full,
  /// Situation::requests or tokens are used up.
  requests,
  tokens,
  /// Prefills would delay a decoding request beyond its target.
  slack,
  /// The next request's blocks are not free now.
  blocks,
  /// The next request would not fit into an empty machine: refuse it, or all wait for ever.
  too_large,
};

/// The outcome: the first `admitted` of the queue begin.
struct AdmissionDecision {
  std::size_t admitted = 0;
  AdmissionStop stop = AdmissionStop::queue_empty;
  /// Seconds that prefills may take (`never`: as long as they like), and those they take now.
  double slack = never;
  double prefill_seconds = 0;

  bool operator==(const AdmissionDecision&) const = default;
};

/// Waiting requests, first come first: size(), and queue[i] gives a WaitingRequest. A decision
/// looks at those it admits and the one after.
template <class Queue>
concept WaitingQueue = requires(const Queue& queue, std::size_t i) {
  { queue.size() } -> std::convertible_to<std::size_t>;
  { queue[i] } -> std::convertible_to<WaitingRequest>;
};
static_assert(WaitingQueue<std::span<const WaitingRequest>>);

/// Decides which of the waiting begin, and writes down how.
template <class Rule>
concept AdmissionRule = std::copyable<Rule> &&
    requires(const Rule& rule, const Situation& situation, std::span<const WaitingRequest> queue,
             std::span<AdmittedRequest> admitted) {
  { rule.decide(situation, queue, admitted) } -> std::same_as<AdmissionDecision>;
};

/// Seconds that a decoding request can be held up and still meet `tpot` seconds a token over its
/// whole output: tpot (N_past + N_future) - (T_past + TPOT_now N_future) (arXiv 2410.00428), read
/// as it stands: N_past counts the first token, for which no time passes, so it is one tpot
/// generous. Below 0 the request is predicted to miss its target anyway. O(1).
[[nodiscard]] LETHE_EXACT inline double slack(const DecodingRequest& request, double tpot) {
  LETHE_EXACT_BODY
  const auto past = static_cast<double>(request.generated);
  const auto future = static_cast<double>(request.remaining);
  return LETHE_PRODUCT(tpot, past + future) -
         (request.decoding_seconds + LETHE_PRODUCT(request.seconds_per_token, future));
}

/// What admission holds blocks for.
enum class Reserve : std::uint8_t {
  /// The prompt, as engines do: outputs take what is free, and preempt when nothing is.
  prompt,
  /// The most a request may ever need (WaitingRequest::most_tokens): nothing is ever preempted.
  /// Situation::free must then leave out what running requests may still claim.
  most_tokens,
};

namespace detail {

/// New blocks of one layer that a request needs.
[[nodiscard]] inline std::size_t layer_blocks(const CacheShape& shape,
                                              const WaitingRequest& request, Reserve reserve) {
  std::size_t tokens = request.tokens;
  if (request.most_tokens != 0) {
    tokens = reserve == Reserve::most_tokens ? request.most_tokens
                                             : std::min(tokens, request.most_tokens);
  }
  tokens = std::min(tokens, most_tokens);
  const std::size_t shared = std::min(request.cached, tokens) / shape.block_tokens;
  return blocks_of(shape, tokens) - shared;
}

/// What is left to compute; of a prompt that is cached whole, the last token.
[[nodiscard]] inline PrefillWork prefill_of(const WaitingRequest& request) {
  if (request.tokens == 0) return {};
  const std::size_t cached = std::min(request.cached, request.tokens - 1);
  return {request.tokens - cached, cached};
}

/// What the caller's limits say of one more request; queue_empty: nothing against it.
[[nodiscard]] inline AdmissionStop limit_reached(const Situation& situation, std::size_t admitted,
                                                 std::size_t tokens, std::size_t list) {
  if (admitted == situation.requests) return AdmissionStop::requests;
  if (tokens >= situation.tokens) return AdmissionStop::tokens;
  return admitted == list ? AdmissionStop::list_full : AdmissionStop::queue_empty;
}

/// Lets requests in, in order, until something runs out. need(request, work, free): how it would
/// be placed, if it fits. may_delay(seconds): whether prefills may come to so much.
template <WaitingQueue Queue, class Need, class MayDelay>
[[nodiscard]] AdmissionDecision admit(const Situation& situation, const Queue& queue,
                                      std::span<AdmittedRequest> admitted, std::size_t chunk,
                                      const Need& need, MayDelay may_delay) {
  AdmissionDecision decision{.prefill_seconds = situation.prefill_seconds};
  FreeBlocks free = situation.free;
  std::size_t tokens = 0;
  for (std::size_t& i = decision.admitted; i < queue.size(); ++i) {
    decision.stop = limit_reached(situation, i, tokens, admitted.size());
    if (decision.stop != AdmissionStop::queue_empty) return decision;
    const WaitingRequest request = queue[i];
    const PrefillWork work = prefill_of(request);
    const double seconds = situation.costs.prefill.seconds(work, chunk);
    const std::optional<AdmittedRequest> place = need(request, work, free);
    decision.stop = AdmissionStop::slack;
    if (!place) {
      const bool ever = need(request, work, situation.all).has_value();
      decision.stop = ever ? AdmissionStop::blocks : AdmissionStop::too_large;
    }
    if (!place || !may_delay(decision.prefill_seconds + seconds)) return decision;
    admitted[i] = {place->layers, place->blocks, seconds};
    free.device -= place->blocks.device;
    free.host -= place->blocks.host;
    tokens += std::min(work.tokens, situation.tokens - tokens);
    decision.prefill_seconds += seconds;
  }
  decision.stop = AdmissionStop::queue_empty;
  return decision;
}

}  // namespace detail

/// Settings of LayerwiseAdmission.
struct LayerwiseConfig {
  CacheShape shape{};
  /// Seconds a token that decoding requests are promised; 0.2 as in the paper. 0: prefills may
  /// delay them as they like, layers alone decide.
  double tpot = 0.2;
  /// Whether a request that misses its target anyway holds others up. True is the paper's rule;
  /// false gives up on it, for more requests in time all told.
  bool heeds_missed = true;
  /// A first in line that has waited so many seconds is let in whatever the slack, one a decision.
  /// `never` is the paper's rule: none begins while a slack is below 0, at most until those that
  /// run have ended.
  double most_wait = never;
  /// Tokens of a prefill pass; 0: a prompt in one.
  std::size_t chunk = 0;
  /// See PrefillSchedule.
  bool fetches_chunks = true;
  /// Layers that stand on the device while they are copied away; 2: one computed, one copied.
  std::size_t staging = 2;
  Reserve reserve = Reserve::prompt;

  bool operator==(const LayerwiseConfig&) const = default;
};

namespace detail {

/// Throws std::invalid_argument naming the first setting that cannot be.
inline void check(const LayerwiseConfig& config) {
  using lethe::detail::require;
  check(config.shape);
  require(config.tpot >= 0 && config.tpot <= 3600, "tpot", config.tpot, "give 0 to 3600 seconds");
  require(config.most_wait >= 0, "most_wait", config.most_wait, "give seconds, or never");
  require(config.staging >= 1 && config.staging <= config.shape.layers, "staging", config.staging,
          "choose 1 to the number of layers");
}

}  // namespace detail

/// LayerKV's rule: first come first served, while all prefills together take no longer than the
/// least slack of the decoding requests and the layers that cannot hide fit on the device.
///
/// None is overtaken, so none starves for blocks. For slack it waits while a decoding request is
/// behind its target; meanwhile none begins, so that wait ends when those that run have ended, or
/// after most_wait.
class LayerwiseAdmission {
 public:
  using Config = LayerwiseConfig;
  /// Throws std::invalid_argument for a setting that cannot be.
  explicit LayerwiseAdmission(const Config& config) : config_(config) { detail::check(config); }

  /// queue: first come first. admitted: where the first decision.admitted of them are described.
  /// O(decoding + admitted), however long the queue is.
  template <WaitingQueue Queue>
  [[nodiscard]] AdmissionDecision decide(const Situation& situation, const Queue& queue,
                                         std::span<AdmittedRequest> admitted) const {
    const double limit = least_slack(situation.decoding);
    const bool overdue = config_.most_wait < never && queue.size() != 0 &&
                         situation.now - WaitingRequest(queue[0]).arrival > config_.most_wait;
    AdmissionDecision decision = detail::admit(
        situation, queue, admitted, config_.chunk,
        [&](const WaitingRequest& request, const PrefillWork& work, const FreeBlocks& free) {
          return place(situation, request, work, free);
        },
        [limit, first = overdue](double seconds) mutable {
          return std::exchange(first, false) || seconds <= limit;
        });
    decision.slack = limit;
    return decision;
  }

  [[nodiscard]] const Config& config() const { return config_; }

  /// The seconds that prefills may take before a decoding request misses its target; `never` when
  /// none decodes or no target is set. O(decoding).
  [[nodiscard]] LETHE_EXACT double least_slack(std::span<const DecodingRequest> decoding) const {
    LETHE_EXACT_BODY
    double least = never;
    if (!(config_.tpot > 0)) return least;
    for (const DecodingRequest& request : decoding) {
      const double seconds = slack(request, config_.tpot);
      if (seconds < least && (config_.heeds_missed || seconds >= 0)) least = seconds;
    }
    return least;
  }

 private:
  [[nodiscard]] std::optional<AdmittedRequest> place(const Situation& situation,
                                                     const WaitingRequest& request,
                                                     const PrefillWork& work,
                                                     const FreeBlocks& free) const {
    const CacheShape& shape = config_.shape;
    const std::size_t blocks = detail::layer_blocks(shape, request, config_.reserve);
    const std::size_t needed = retained_layers(situation.costs, shape,
                                               {.work = work,
                                                .chunk = config_.chunk,
                                                .fetches_chunks = config_.fetches_chunks,
                                                .link_share = situation.link_share});
    const auto range = layers_that_fit(shape, needed, blocks, free, config_.staging);
    if (!range) return std::nullopt;
    const std::size_t away = shape.layers - range->fewest;
    return AdmittedRequest{
        .layers = *range,
        .blocks = {device_blocks(shape, range->fewest, blocks, config_.staging), away * blocks}};
  }

  Config config_;
};
static_assert(AdmissionRule<LayerwiseAdmission>);

/// Settings of WholeRequestAdmission.
struct WholeRequestConfig {
  CacheShape shape{};
  /// Device blocks that new requests must leave free; 0, as vLLM's present scheduler does.
  std::size_t kept_free = 0;
  /// Tokens of a prefill pass; 0: a prompt in one.
  std::size_t chunk = 0;
  Reserve reserve = Reserve::prompt;

  bool operator==(const WholeRequestConfig&) const = default;
};

/// What engines do, to compare with: first come first served, a prompt begins when blocks for all
/// of its layers are free on the device; nobody's latency is looked at.
class WholeRequestAdmission {
 public:
  using Config = WholeRequestConfig;
  /// Throws std::invalid_argument for a shape that cannot be.
  explicit WholeRequestAdmission(const Config& config) : config_(config) {
    detail::check(config.shape);
  }

  /// As LayerwiseAdmission's. O(admitted).
  template <WaitingQueue Queue>
  [[nodiscard]] AdmissionDecision decide(const Situation& situation, const Queue& queue,
                                         std::span<AdmittedRequest> admitted) const {
    return detail::admit(
        situation, queue, admitted, config_.chunk,
        [&](const WaitingRequest& request, const PrefillWork&, const FreeBlocks& free) {
          return place(request, free);
        },
        [](double) { return true; });
  }

  [[nodiscard]] const Config& config() const { return config_; }

 private:
  [[nodiscard]] std::optional<AdmittedRequest> place(const WaitingRequest& request,
                                                     const FreeBlocks& free) const {
    const std::size_t layers = config_.shape.layers;
    const std::size_t blocks = detail::layer_blocks(config_.shape, request, config_.reserve);
    const std::size_t usable = free.device - std::min(free.device, config_.kept_free);
    if (blocks > usable / layers) return std::nullopt;
    return AdmittedRequest{.layers = {layers, layers}, .blocks = {layers * blocks, 0}};
  }

  Config config_;
};
static_assert(AdmissionRule<WholeRequestAdmission>);

}  // namespace lethe::layerkv
