/// A recorded text's attention under policies, beside the whole cache's.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "attention.hpp"
#include "kv_cache.hpp"
#include "pruners.hpp"
#include "recording.hpp"
#include "thread_pool.hpp"

namespace decoder {

/// A policy and how many tokens it may hold.
struct ReplayChoice {
  std::string policy;
  std::string budget;      ///< as given
  std::size_t tokens = 0;  ///< most tokens a layer holds
  bool is_pinned = false;  ///< keep the prompt
};

/// What a policy lost in one layer: sums over the tokens after the prompt.
struct LayerLoss {
  double kept = 0;    ///< share of the tokens so far that were held
  double mass = 0;    ///< share of the whole cache's attention on tokens that were gone
  double output = 0;  ///< |Av - A'v| / |Av|
};

/// One policy's cache.
class ReplayedPolicy {
 public:
  /// @throws Error for an unknown policy, or a budget that cannot hold the protected tokens
  ReplayedPolicy(const Recording& recording, const ReplayChoice& choice, CacheType type);

  [[nodiscard]] KVCache& cache() noexcept { return cache_; }
  [[nodiscard]] Pruner& pruner() noexcept { return pruner_; }
  /// Losses by layer.
  [[nodiscard]] std::span<LayerLoss> losses() noexcept { return losses_; }
  /// Means by layer and over them, of `tokens` tokens.
  [[nodiscard]] nlohmann::json results(std::size_t tokens) const;

 private:
  ReplayChoice choice_;
  Pruner pruner_;
  KVCache cache_;
  std::vector<LayerLoss> losses_;
};

/// Feeds a recording, token by token, to the whole cache and to those of all policies.
class Replay {
 public:
  /// @param recording must outlive the replay
  Replay(const Recording& recording, std::span<const ReplayChoice> choices, CacheType type,
         unsigned threads);

  /// Replays all; ends early when interrupted. O(layers x heads x tokens^2 x channels).
  /// @throws Error where recorded log-sum-exps are not those of queries and keys
  void run();

  /// Tokens judged so far: those after the prompt.
  [[nodiscard]] std::size_t judged() const noexcept { return judged_; }
  /// An array, one object for each policy.
  [[nodiscard]] nlohmann::json results() const;

 private:
  void step(std::size_t first, std::size_t tokens);
  void load(std::size_t layer, std::size_t first, std::size_t tokens);
  void observe(std::size_t layer);
  void judge(std::size_t layer, std::size_t first, std::size_t tokens);
  void check_whole(std::size_t layer, std::size_t first, std::size_t tokens) const;
  void check_lse(std::size_t layer, std::size_t first, std::size_t tokens) const;
  [[nodiscard]] std::size_t chunk_at(std::size_t first) const;

  const Recording& recording_;
  const ModelConfig& model_;
  ThreadPool pool_;
  Attention attention_;
  KVCache whole_;
  std::vector<std::unique_ptr<ReplayedPolicy>> policies_;
  std::size_t judged_ = 0;
  std::vector<AttentionTask> tasks_;
  std::vector<float> recorded_queries_;  // [tokens][heads][head_dim]
  std::vector<float> queries_;           // [tasks][tokens][heads][channels], scaled
  std::vector<float> keys_;              // [tokens][kv_heads][head_dim]
  std::vector<float> values_;            // [tokens][kv_heads][head_dim]
  std::vector<float> attended_;          // [tasks][tokens][heads][head_dim]
};

}  // namespace decoder
