/// Runs a model: prompts in chunks, then sequences in lockstep, each with its own cache and pruner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kv_cache.hpp"
#include "model.hpp"
#include "paged_cache.hpp"
#include "pruners.hpp"

namespace decoder {

/// What one layer's attention took in, and the log-sum-exps it came to; valid during the call.
struct LayerStep {
  std::size_t layer = 0;
  std::size_t tokens = 0;
  const float* queries = nullptr;  ///< [tokens][heads][head_dim], rotated, not scaled
  const float* keys = nullptr;     ///< [tokens][kv_heads][head_dim], rotated
  const float* values = nullptr;   ///< [tokens][kv_heads][head_dim]
  const float* lse = nullptr;      ///< [tokens][heads]
};

/// Called after the attention of each layer; may be empty.
using LayerReceiver = std::function<void(const LayerStep&)>;

/// One text being decoded.
struct Sequence {
  KVCache cache;
  Pruner pruner;                ///< an empty one keeps every token
  std::size_t position = 0;     ///< position of the next token; a prune does not change it
  RoundReceiver on_round = {};  ///< called after each round
  LayerReceiver on_layer = {};  ///< called after each layer's attention
};

/// Returns a sequence that goes on from the same text in its own way: without the receivers.
/// @throws Error when its cache's memory cannot be had
[[nodiscard]] inline Sequence fork(const Sequence& sequence) {
  return {.cache = sequence.cache.copy(),
          .pruner = sequence.pruner.copy(),
          .position = sequence.position};
}

/// New tokens of one sequence whose cache lies in blocks; their places are given when the layer is
/// computed.
struct PagedPart {
  PagedCache* cache = nullptr;
  std::span<const std::int32_t> tokens;  ///< one or more
  std::size_t position = 0;              ///< of the first of them
  /// Is shown the attention, and told that the tokens stand; it has made room before. May be none.
  Pruner* pruner = nullptr;
};

/// Called around the attention of each layer of a step, once for all sequences; may be empty.
struct LayerHooks {
  std::function<void(std::size_t)> before;  ///< the blocks of the layer are needed from here on
  std::function<void(std::size_t)> after;   ///< and were read and written
};

/// Which tokens' logits a step returns: of each sequence the last, or all.
enum class LogitsOf { last, all };

/// Seconds spent since the last reset.
struct Timings {
  double total = 0;      ///< in prefill and step
  double make_room = 0;  ///< in lethe: planning and moving
  double observe = 0;    ///< in lethe: recording attention
  double commit = 0;     ///< in lethe: end of step
  double attention = 0;  ///< in attention alone, without the products around it
  double logits = 0;     ///< in the last norm and the output matrix

  double pruner() const noexcept { return make_room + observe + commit; }
  Timings& operator+=(const Timings& more) noexcept;
};

/// Decodes with one model; owns the threads and the scratch memory. Not thread safe.
class Decoder {
 public:
  /// @param model must outlive the decoder
  /// @param threads 0: as many as the hardware has
  explicit Decoder(const Model& model, unsigned threads = 0);
  ~Decoder();

  /// Appends `tokens` to one sequence, in chunks no longer than its pruner can make room for.
  /// @return [tokens or 1][vocabulary] logits, valid until the next call; with LogitsOf::all pass
  ///         a long text in pieces, since each token's logits take 4 * vocabulary bytes
  /// @throws Error when the cache is full, or for a token outside the vocabulary
  std::span<const float> prefill(Sequence& sequence, std::span<const std::int32_t> tokens,
                                 LogitsOf logits = LogitsOf::last);

  /// Appends one token to each sequence of a batch; the weights are read once.
  /// @param batch sequences, all different
  /// @param tokens one per sequence
  /// @return [batch][vocabulary] logits, valid until the next call
  /// @throws Error when a cache is full, or for a token outside the vocabulary
  std::span<const float> step(std::span<Sequence* const> batch,
                              std::span<const std::int32_t> tokens);

  /// Appends one token to one sequence.
  /// @return [vocabulary] logits, valid until the next call
  std::span<const float> step(Sequence& sequence, std::int32_t token);

  /// Appends tokens to sequences with paged caches, prompts and single tokens alike, in one step.
  /// @param parts sequences, all different
  /// @return [parts][vocabulary] logits of each part's last token, valid until the next call
  /// @throws Error for a token outside the vocabulary
  std::span<const float> step(std::span<const PagedPart> parts, const LayerHooks& hooks);

  /// Returns the number of threads that compute, the caller's included.
  [[nodiscard]] unsigned threads() const noexcept;
  [[nodiscard]] const Timings& timings() const noexcept;
  void reset_timings() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace decoder
