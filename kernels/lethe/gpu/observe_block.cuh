/// Scores from what a decode step's attention was, by blocks of threads: the same bits as the
/// host's lethe::Rasr, or its WindowRows, makes of the same mass.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "lethe/attention.hpp"
#include "lethe/gpu/block.cuh"
#include "lethe/gpu/rasr_weights.hpp"
#include "lethe/gpu/state.hpp"

namespace lethe::gpu {

/// The attention of a whole batch in one layer: that of row r is the host library's observation
/// `first` with r x row_stride elements added to its data, and r x lse_row_stride to its lse. Its
/// heads are those of all the state's groups. Strides of `first` that are 0 mean densely packed;
/// its first_query, first_group and group_count stay 0. Its columns are the most that a row covers:
/// each row's own length counts.
template <class Observation>
struct BatchObservation {
  Observation first{};
  std::size_t row_stride = 0;
  std::size_t lse_row_stride = 0;
};

/// One layer of a batch, as observe is told: weights[row x queries + query], in device memory; null
/// where the state keeps a window.
struct ObservedLayer {
  State state{};
  Batch batch{};
  std::uint32_t layer = 0;
  const QueryWeight* weights = nullptr;
};

namespace detail {

/// A score and a query's mass, both roundings made.
[[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT inline float with_mass(float score, float mass,
                                                                  float weight) {
  LETHE_EXACT_BODY
  return score + LETHE_PRODUCT(mass, weight);
}

/// The heads of one group.
struct GroupHeads {
  std::size_t first = 0;
  std::size_t end = 0;
};

/// One query's mass in one token: a group's heads one after another, as on the host. Another order
/// would be another sum: a kernel that shares heads out must add them in this order.
template <class Element>
[[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT float mass_of(
    const BatchObservation<Probabilities<Element>>& seen, std::uint32_t row, std::uint32_t query,
    std::uint32_t token, const GroupHeads& heads) {
  LETHE_EXACT_BODY
  const Probabilities<Element>& first = seen.first;
  const Element* data =
      first.data + row * seen.row_stride + query * first.query_stride + token * first.column_stride;
  float mass = 0.0f;
  for (std::size_t head = heads.first; head < heads.end; ++head) {
    mass = mass + to_float(data[head * first.head_stride]);
  }
  return mass;
}

/// A logit on the scale that its lse is on. Soft-capped logits agree with the host's to rounding
/// alone, for tanh is the platform's own.
[[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT inline float scaled_logit(float logit, float scale,
                                                                     float softcap) {
  LETHE_EXACT_BODY
  const float scaled = LETHE_PRODUCT(logit, scale);
  if (softcap == 0.0f) return scaled;
  const float inverse = 1.0f / softcap;
  return LETHE_PRODUCT(softcap, std::tanh(LETHE_PRODUCT(scaled, inverse)));
}

/// The same from logits: exp(logit - lse), by the host's own exponential.
template <class Element>
[[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT float mass_of(
    const BatchObservation<Logits<Element>>& seen, std::uint32_t row, std::uint32_t query,
    std::uint32_t token, const GroupHeads& heads) {
  LETHE_EXACT_BODY
  const Logits<Element>& first = seen.first;
  const Element* data =
      first.data + row * seen.row_stride + query * first.query_stride + token * first.column_stride;
  const float* lse = first.lse + row * seen.lse_row_stride + query * first.lse_query_stride;
  float mass = 0.0f;
  for (std::size_t head = heads.first; head < heads.end; ++head) {
    const float logit =
        scaled_logit(to_float(data[head * first.head_stride]), first.scale, first.softcap);
    const float base = first.base == LogBase::two ? LETHE_PRODUCT(lse[head * first.lse_head_stride],
                                                                  lethe::detail::natural_log_of_two)
                                                  : lse[head * first.lse_head_stride];
    mass = mass + exact_exp(logit - base);
  }
  return mass;
}

}  // namespace detail

/// Where an attention kernel of the engine's own puts a token's mass: made once a block for one
/// (layer, row of the batch, group), and called once for each token and query, queries ascending,
/// by the thread that has summed the token's heads of the group in their order. Only for a query
/// that attended to the token; a factor other than 1 wants query 0 of every token, and a window
/// (StateShape::window) every token below limit(query), with 0 where the query did not attend, and
/// no weights.
class MassSink {
 public:
  /// queries: those of the step, of each row.
  LETHE_BLOCK_CODE MassSink(const ObservedLayer& seen, std::uint32_t queries, std::uint32_t row,
                            std::uint32_t group = 0) {
    std::uint32_t slot = 0;
    if (!detail::slot_of_row(seen.batch, seen.state.shape.slots, row, slot)) return;
    const std::size_t number = seen.state.number(seen.layer, slot);
    scores_ = seen.state.score_row(number, group);
    tokens_ = seen.state.lengths[number];
    if (seen.weights != nullptr) weights_ = seen.weights + std::size_t{row} * queries;
    queries_ = queries;
    window_ = seen.state.window(number);
    first_number_ = seen.state.next_positions[slot] - queries + 1;
  }

  /// Tokens of the layer, the step's own included; 0 for padding.
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t tokens() const { return tokens_; }

  /// Tokens that a query attends to.
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t limit(std::uint32_t query) const {
    const std::uint32_t later = queries_ - 1 - query;
    return tokens_ < later ? 0 : tokens_ - later;
  }

  LETHE_BLOCK_CODE void operator()(std::uint32_t token, std::uint32_t query, float mass) const {
    if (has_window()) return window_.record(token, first_number_ + query, mass);
    scores_[token] = added(scores_[token], query, mass);
  }

  [[nodiscard]] LETHE_BLOCK_CODE bool has_window() const { return window_.rows != nullptr; }
  /// The first query of the step that a window still holds at its end: none before need be told.
  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t first_query() const {
    return !has_window() || queries_ < window_.window ? 0 : queries_ - window_.window;
  }

  /// The score after a query's mass; of a token that the query did not attend to, rescale alone.
  [[nodiscard]] LETHE_BLOCK_CODE float added(float score, std::uint32_t query, float mass) const {
    return detail::with_mass(rescaled(score, query), mass, weights_[query].weight);
  }
  [[nodiscard]] LETHE_BLOCK_CODE float rescaled(float score, std::uint32_t query) const {
    const float factor = weights_[query].factor;
    return factor != 1.0f ? lethe::detail::rescaled(score, factor) : score;
  }

  [[nodiscard]] LETHE_BLOCK_CODE float* scores() const { return scores_; }

 private:
  float* scores_ = nullptr;
  const QueryWeight* weights_ = nullptr;
  std::uint32_t tokens_ = 0;
  std::uint32_t queries_ = 1;
  MassWindow window_{};
  /// Of the step's first query.
  std::uint32_t first_number_ = 0;
};

namespace detail {

/// Records what the step's queries paid one token in the window; 0 where one did not attend.
template <class Observation>
LETHE_BLOCK_CODE void observe_in_window(const MassSink& sink,
                                        const BatchObservation<Observation>& seen,
                                        std::uint32_t row, std::uint32_t token,
                                        const GroupHeads& heads) {
  const auto queries = static_cast<std::uint32_t>(seen.first.queries);
  for (std::uint32_t query = sink.first_query(); query < queries; ++query) {
    const bool seen_by = token < sink.limit(query) && token < seen.first.columns;
    sink(token, query, seen_by ? mass_of(seen, row, query, token, heads) : 0.0f);
  }
}

}  // namespace detail

/// A block of observe: tokens from tile x Block::threads on, one a lane, of one group of one row of
/// the batch.
template <ThreadBlock Block, class Observation>
LETHE_BLOCK_CODE void observe_block(const Block& block, const ObservedLayer& layer,
                                    const BatchObservation<Observation>& seen, std::uint32_t tile,
                                    std::uint32_t row, std::uint32_t group = 0) {
  const auto queries = static_cast<std::uint32_t>(seen.first.queries);
  const MassSink sink(layer, queries, row, group);
  const std::size_t each = seen.first.heads / layer.state.shape.groups;
  const detail::GroupHeads heads{group * each, (group + 1) * each};
  block.lanes([&](unsigned lane) {
    const std::uint32_t token = tile * Block::threads + lane;
    if (token >= sink.tokens()) return;
    if (sink.has_window()) return detail::observe_in_window(sink, seen, row, token, heads);
    float score = sink.scores()[token];
    for (std::uint32_t query = 0; query < queries; ++query) {
      const bool seen_by = token < sink.limit(query) && token < seen.first.columns;
      score = seen_by ? sink.added(score, query, detail::mass_of(seen, row, query, token, heads))
                      : sink.rescaled(score, query);
    }
    sink.scores()[token] = score;
  });
}

namespace detail {

/// The next slots of a layer get tokens of positions from `next` on, in every set, and score 0.
LETHE_BLOCK_CODE inline void begin_tokens(const State& state, std::size_t number,
                                          std::uint32_t count, Position next) {
  const std::uint32_t begin = state.lengths[number];
  for (std::uint32_t set = 0; set < state.shape.sets(); ++set) {
    Position* positions = state.position_row(number, set) + begin;
    for (std::uint32_t i = 0; i < count; ++i) positions[i] = next + i;
  }
  for (std::uint32_t group = 0; group < state.shape.groups; ++group) {
    if (state.scores == nullptr) break;
    float* scores = state.score_row(number, group) + begin;
    for (std::uint32_t i = 0; i < count; ++i) scores[i] = 0.0f;
  }
}

}  // namespace detail

/// A block of append: the step's tokens take the next slots of every layer of one row, and score 0.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void append_block(const Block& block, const State& state, const Batch& batch,
                                   std::uint32_t tokens, std::uint32_t row) {
  std::uint32_t slot = 0;
  if (!detail::slot_of_row(batch, state.shape.slots, row, slot)) return;
  const Position next = block.read(state.next_positions[slot]);
  block.lanes([&](unsigned lane) {
    for (std::uint32_t layer = lane; layer < state.shape.layers; layer += Block::threads) {
      const std::size_t number = state.number(layer, slot);
      const std::uint32_t room = state.shape.capacity - state.lengths[number];
      const std::uint32_t count = tokens < room ? tokens : room;
      detail::begin_tokens(state, number, count, next);
      state.lengths[number] += count;
      state.cadences[number].since_round += count;
    }
    if (lane == 0) state.next_positions[slot] = next + tokens;
  });
}

/// A block of start_sequences: one row's slot holds no token.
template <ThreadBlock Block>
LETHE_BLOCK_CODE void start_block(const Block& block, const State& state, const Batch& batch,
                                  std::uint32_t threshold, std::uint32_t row) {
  std::uint32_t slot = 0;
  if (!detail::slot_of_row(batch, state.shape.slots, row, slot)) return;
  block.lanes([&](unsigned lane) {
    for (std::uint32_t layer = lane; layer < state.shape.layers; layer += Block::threads) {
      state.lengths[state.number(layer, slot)] = 0;
      state.cadences[state.number(layer, slot)] = {threshold, 0};
      const MassWindow window = state.window(state.number(layer, slot));
      for (std::uint32_t i = 0; i < window.window; ++i) window.queries[i] = 0;
    }
    if (lane == 0) {
      state.pinned[slot] = 0;
      state.next_positions[slot] = 0;
    }
  });
}

}  // namespace lethe::gpu
