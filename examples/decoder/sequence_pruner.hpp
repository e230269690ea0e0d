/// A sequence's pruner, whatever its policy: so that only the files that make policies compile
/// them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <lethe/attention.hpp>
#include <lethe/pruner_config.hpp>
#include <lethe/trace.hpp>
#include <memory>
#include <string>
#include <utility>

#include "any_cache.hpp"
#include "error.hpp"

namespace decoder {

/// Called for every layer that a round examined; may be empty.
using RoundReceiver = std::function<void(const lethe::RoundStatistics&)>;

/// The three verbs of lethe's pruners for caches of any kind, or nothing: then every token stays.
class Pruner {
 public:
  /// Most tokens of a prompt that go through the layers together: enough to be bound by arithmetic,
  /// few enough that a layer's activations stay in the second cache.
  static constexpr std::size_t largest_chunk = 64;

  Pruner() = default;
  /// @param policy a lethe::Pruner
  template <class Policy>
  explicit Pruner(Policy policy) : self_(std::make_unique<Of<Policy>>(std::move(policy))) {}

  /// Returns a pruner that decides as this one would from here on.
  [[nodiscard]] Pruner copy() const {
    Pruner fork;
    if (self_) fork.self_ = self_->copy();
    return fork;
  }

  /// Returns whether there is a pruner, so that attention is worth observing.
  [[nodiscard]] explicit operator bool() const noexcept { return self_ != nullptr; }
  /// Returns the settings; only where there is a pruner.
  [[nodiscard]] const lethe::PrunerConfig& config() const noexcept { return self_->config(); }

  /// Returns how many tokens of a prompt a step takes at most: no more than a round frees anyway,
  /// so that the prompt evicts no more than decoding would.
  [[nodiscard]] std::size_t chunk_tokens() const {
    if (!self_) return largest_chunk;
    return std::min(largest_chunk, lethe::slack_tokens(config().slack_ratio, config().capacity));
  }

  /// Returns the most tokens that a head of the cache holds while `tokens` are seen.
  [[nodiscard]] std::size_t most_in_head(std::size_t tokens) const {
    return self_ ? std::min(tokens, lethe::head_slots(config())) : tokens;
  }

  void pin(std::size_t tokens) {
    if (self_) self_->pin(tokens);
  }
  /// @throws Error when heads are to keep counts of their own, which the cache cannot
  template <PrunedCache Cache>
  void make_room(Cache& cache, std::size_t tokens, const RoundReceiver& receiver) {
    if (!self_) return;
    // AnyCache has a size a head for every cache, so that lethe's own check passes.
    if (!lethe::UnequalHeadsCache<Cache> && config().head_capacity != 0)
      throw Error("head_capacity " + std::to_string(config().head_capacity) +
                  ": the heads of this cache hold equally many tokens; choose a policy that keeps "
                  "as many in each");
    AnyCacheOf<Cache> any(cache);
    self_->make_room(any, tokens, receiver);
  }
  /// Returns whether make_room would examine a layer.
  template <PrunedCache Cache>
  [[nodiscard]] bool is_due(Cache& cache, std::size_t tokens) {
    if (!self_) return false;
    AnyCacheOf<Cache> any(cache);
    return self_->is_due(any, tokens);
  }
  /// Begins another text, with nothing pinned. Allocates nothing.
  void reset() {
    if (self_) self_->reset();
  }
  /// Returns the most tokens that a layer ever holds, and the length at which it is next examined
  /// before that (0: not); only where there is a pruner.
  [[nodiscard]] std::size_t bound(std::size_t layer) const { return self_->bound(layer); }
  [[nodiscard]] std::size_t threshold(std::size_t layer) const { return self_->threshold(layer); }
  /// Shows what a layer attended to, and to a policy that learns from them the queries.
  /// @param queries [seen.queries][seen.heads][head_dim], rotated, not scaled
  void observe(std::size_t layer, const lethe::Probabilities<float>& seen, const float* queries,
               std::size_t head_dim) {
    if (!self_) return;
    self_->observe(layer, seen,
                   {.data = queries,
                    .heads = seen.heads,
                    .queries = seen.queries,
                    .head_dimension = head_dim,
                    .head_stride = head_dim,
                    .query_stride = seen.heads * head_dim});
  }
  void commit() {
    if (self_) self_->commit();
  }

 private:
  struct Any {
    virtual ~Any() = default;
    [[nodiscard]] virtual std::unique_ptr<Any> copy() const = 0;
    [[nodiscard]] virtual const lethe::PrunerConfig& config() const noexcept = 0;
    virtual void pin(std::size_t tokens) = 0;
    virtual void reset() = 0;
    [[nodiscard]] virtual std::size_t bound(std::size_t layer) const = 0;
    [[nodiscard]] virtual std::size_t threshold(std::size_t layer) const = 0;
    [[nodiscard]] virtual bool is_due(AnyCache& cache, std::size_t tokens) = 0;
    virtual void make_room(AnyCache& cache, std::size_t tokens, const RoundReceiver& receiver) = 0;
    virtual void observe(std::size_t layer, const lethe::Probabilities<float>& seen,
                         const lethe::Queries<float>& queries) = 0;
    virtual void commit() = 0;
  };

  template <class Policy>
  struct Of final : Any {
    static constexpr bool learns_from_queries = [] {
      if constexpr (requires { Policy::reads_queries; }) return Policy::reads_queries;
      return false;
    }();

    explicit Of(Policy chosen) : policy(std::move(chosen)) {}

    [[nodiscard]] std::unique_ptr<Any> copy() const override {
      return std::make_unique<Of>(policy);
    }

    [[nodiscard]] const lethe::PrunerConfig& config() const noexcept override {
      return policy.config();
    }
    void pin(std::size_t tokens) override { policy.pin(tokens); }
    void reset() override { policy.reset(); }
    [[nodiscard]] std::size_t bound(std::size_t layer) const override {
      return policy.bound(layer);
    }
    [[nodiscard]] std::size_t threshold(std::size_t layer) const override {
      return policy.threshold(layer);
    }
    [[nodiscard]] bool is_due(AnyCache& cache, std::size_t tokens) override {
      return policy.is_due(cache, tokens);
    }
    void make_room(AnyCache& cache, std::size_t tokens, const RoundReceiver& receiver) override {
      policy.make_room(cache, tokens, [&](const lethe::RoundStatistics& round) {
        if (receiver) receiver(round);
      });
    }
    void observe(std::size_t layer, const lethe::Probabilities<float>& seen,
                 [[maybe_unused]] const lethe::Queries<float>& queries) override {
      policy.observe(layer, seen);
      if constexpr (learns_from_queries) policy.observe(layer, queries);
    }
    void commit() override { policy.commit(); }

    Policy policy;
  };

  std::unique_ptr<Any> self_;
};

}  // namespace decoder
