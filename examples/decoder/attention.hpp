/// One layer's attention of a batch: from each new token's queries to its sequence's cache.
#pragma once

#include <cstddef>
#include <lethe/attention.hpp>
#include <span>
#include <vector>

#include "kernels.hpp"
#include "kv_cache.hpp"
#include "paged_cache.hpp"
#include "thread_pool.hpp"

namespace decoder {

/// The new tokens of one sequence; their keys and values are in the cache already.
struct AttentionTask {
  const KVCache* cache = nullptr;
  std::size_t tokens = 0;             ///< the last `tokens` of the layer
  std::size_t first_row = 0;          ///< row of the first one in the batch's activations
  bool observed = false;              ///< whether the probabilities are wanted
  const PagedCache* paged = nullptr;  ///< given instead of `cache`

  /// Returns the tokens of the longest head.
  std::size_t size(std::size_t layer) const noexcept {
    return paged != nullptr ? paged->size(layer) : cache->size(layer);
  }
  std::size_t size(std::size_t layer, std::size_t kv_head) const noexcept {
    return paged != nullptr ? paged->size(layer) : cache->size(layer, kv_head);
  }
  std::size_t channels() const noexcept {
    return paged != nullptr ? paged->channels() : cache->channels();
  }
};

/// Splits attention into chunks of the cache that threads work on, and merges what they found.
/// The chunks depend on the lengths alone, so results do not depend on threads or on the batch;
/// those of a paged cache not even on how many tokens a step takes, so that a sequence which is
/// computed again in other steps comes out the same.
class Attention {
 public:
  Attention(const ModelConfig& config, ThreadPool& pool) : config_(config), pool_(pool) {}

  /// Attends in one layer. O(tokens * heads * cached tokens * channels).
  /// @param queries [rows][heads][cache channels], scaled by 1 / sqrt(head_dim)
  /// @param out [rows][heads][head_dim]
  void run(std::size_t layer, std::span<const AttentionTask> tasks, const float* queries,
           float* out);

  /// Returns the log-sum-exps of the last run, [rows][heads].
  [[nodiscard]] std::span<const float> lse() const noexcept { return lse_; }
  /// Returns the probabilities of an observed task of the last run; of a head shorter than the
  /// longest, its own tokens' columns alone are set.
  [[nodiscard]] lethe::Probabilities<float> observed(std::size_t task) const noexcept;

 private:
  // Queries of one KV head against one chunk of its strip.
  struct Item {
    std::size_t task = 0;
    std::size_t kv_head = 0;
    std::size_t first_token = 0;
    std::size_t tokens = 0;
    std::size_t first_column = 0;
    std::size_t columns = 0;
    std::size_t first_row = 0;  // in rows_
  };
  // One query of one head, whose items are to be merged.
  struct Merge {
    std::size_t first_item = 0;
    std::size_t items = 0;
    std::size_t row = 0;  // within each item
    float* probabilities = nullptr;
    float* out = nullptr;
    float* lse = nullptr;
  };

  void plan(std::size_t layer, std::span<const AttentionTask> tasks, float* out);
  void reserve_unobserved(std::span<const AttentionTask> tasks);
  void plan_task(std::size_t layer, std::size_t index, const AttentionTask& task, float* out);
  void plan_merges(std::size_t first_item, const AttentionTask& task, std::size_t items,
                   float* out);
  float* probabilities(std::size_t task, std::size_t head, std::size_t token) noexcept;
  void attend(std::size_t layer, const Item& item, const AttentionTask& task, const float* queries);
  kernels::AttentionChunk chunk(std::size_t layer, const Item& item,
                                const AttentionTask& task) const;
  void fill_rows(const Item& item, const AttentionTask& task, const float* queries,
                 std::size_t layer, std::span<kernels::AttentionRow> rows);
  void merge(const Merge& merge) noexcept;

  const ModelConfig& config_;
  ThreadPool& pool_;
  std::size_t channels_ = 0;
  std::vector<Item> items_;
  std::vector<Merge> merges_;
  std::vector<lethe::Probabilities<float>> observed_;
  std::vector<std::size_t> offsets_;
  std::vector<kernels::AttentionRow> rows_;
  std::vector<float> outputs_;
  std::vector<float> lse_;
  std::vector<float> probabilities_;
  std::vector<float> unobserved_;  // [threads][unobserved_stride_]: probabilities nobody observes
  std::size_t unobserved_stride_ = 0;
};

}  // namespace decoder
