#include "attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "round_up.hpp"

namespace decoder {
namespace {

// A decode step needs many items to share among threads; a prompt's queries make enough of them.
constexpr std::size_t decode_chunk = PagedCache::chunk_tokens;
constexpr std::size_t prompt_chunk = 512;
// Rows of an item: as many as let widened keys and values stay in the first cache.
constexpr std::size_t rows_per_item = 48;

}  // namespace

void Attention::run(std::size_t layer, std::span<const AttentionTask> tasks, const float* queries,
                    float* out) {
  plan(layer, tasks, out);
  reserve_unobserved(tasks);
  pool_.parallel_for(items_.size(), 1, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) {
      attend(layer, items_[i], tasks[items_[i].task], queries);
    }
  });
  pool_.parallel_for(merges_.size(), 1, [&](std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) merge(merges_[i]);
  });
}

lethe::Probabilities<float> Attention::observed(std::size_t task) const noexcept {
  lethe::Probabilities<float> seen = observed_[task];
  seen.data = probabilities_.data() + offsets_[task];
  return seen;
}

void Attention::plan(std::size_t layer, std::span<const AttentionTask> tasks, float* out) {
  items_.clear();
  merges_.clear();
  observed_.clear();
  offsets_.clear();
  std::size_t probabilities = 0;
  for (const AttentionTask& task : tasks) {
    const std::size_t columns = task.size(layer);
    const std::size_t stride = round_up(columns, 16);
    offsets_.push_back(probabilities);
    observed_.push_back({.heads = config_.heads,
                         .queries = task.tokens,
                         .columns = columns,
                         .head_stride = task.tokens * stride,
                         .query_stride = stride});
    if (task.observed) probabilities += config_.heads * task.tokens * stride;
  }
  if (probabilities_.size() < probabilities) probabilities_.resize(probabilities);
  channels_ = tasks[0].channels();
  lse_.resize((tasks.back().first_row + tasks.back().tokens) * config_.heads);
  for (std::size_t i = 0; i < tasks.size(); ++i) plan_task(layer, i, tasks[i], out);
  const Item& last = items_.back();
  const std::size_t rows = last.first_row + last.tokens * (config_.heads / config_.kv_heads);
  if (rows_.size() < rows) rows_.resize(rows);
  if (outputs_.size() < rows * channels_) outputs_.resize(rows * channels_);
}

void Attention::reserve_unobserved(std::span<const AttentionTask> tasks) {
  const std::size_t group = config_.heads / config_.kv_heads;
  unobserved_stride_ = 0;
  for (const Item& item : items_) {
    if (tasks[item.task].observed) continue;
    unobserved_stride_ =
        std::max(unobserved_stride_, item.tokens * group * round_up(item.columns, 16));
  }
  const std::size_t count = pool_.threads() * unobserved_stride_;
  if (unobserved_.size() < count) unobserved_.resize(count);
}

void Attention::plan_task(std::size_t layer, std::size_t index, const AttentionTask& task,
                          float* out) {
  const std::size_t group = config_.heads / config_.kv_heads;
  const std::size_t tokens_per_item = std::max<std::size_t>(1, rows_per_item / group);
  const bool is_prompt = task.tokens > 1 && task.paged == nullptr;
  const std::size_t step = is_prompt ? prompt_chunk : decode_chunk;
  Item item{.task = index};
  if (!items_.empty()) item.first_row = items_.back().first_row + items_.back().tokens * group;
  for (item.kv_head = 0; item.kv_head < config_.kv_heads; ++item.kv_head) {
    const std::size_t columns = task.size(layer, item.kv_head);
    for (item.first_token = 0; item.first_token < task.tokens; item.first_token += item.tokens) {
      item.tokens = std::min(tokens_per_item, task.tokens - item.first_token);
      const std::size_t seen = columns - task.tokens + item.first_token + item.tokens;
      const std::size_t first_item = items_.size();
      for (item.first_column = 0; item.first_column < seen; item.first_column += step) {
        item.columns = std::min(step, seen - item.first_column);
        items_.push_back(item);
        item.first_row += item.tokens * group;
      }
      plan_merges(first_item, task, items_.size() - first_item, out);
    }
  }
}

void Attention::plan_merges(std::size_t first_item, const AttentionTask& task, std::size_t items,
                            float* out) {
  const Item& item = items_[first_item];
  const std::size_t group = config_.heads / config_.kv_heads;
  for (std::size_t row = 0; row < group * item.tokens; ++row) {
    const std::size_t head = item.kv_head * group + row / item.tokens;
    const std::size_t token = item.first_token + row % item.tokens;
    const std::size_t out_row = (task.first_row + token) * config_.heads + head;
    merges_.push_back({first_item, items, row,
                       task.observed ? probabilities(item.task, head, token) : nullptr,
                       out + out_row * config_.head_dim, &lse_[out_row]});
  }
}

float* Attention::probabilities(std::size_t task, std::size_t head, std::size_t token) noexcept {
  const lethe::Probabilities<float>& seen = observed_[task];
  return probabilities_.data() + offsets_[task] + head * seen.head_stride +
         token * seen.query_stride;
}

void Attention::attend(std::size_t layer, const Item& item, const AttentionTask& task,
                       const float* queries) {
  const std::size_t count = item.tokens * (config_.heads / config_.kv_heads);
  const std::span<kernels::AttentionRow> rows(&rows_[item.first_row], count);
  fill_rows(item, task, queries, layer, rows);
  kernels::attend(chunk(layer, item, task), rows);
}

kernels::AttentionChunk Attention::chunk(std::size_t layer, const Item& item,
                                         const AttentionTask& task) const {
  if (task.paged != nullptr) {
    const PagedCache& cache = *task.paged;
    return {.type = cache.type(),
            .row_bytes = cache.row_bytes(),
            .columns = item.columns,
            .channels = channels_,
            .blocks = cache.blocks(layer).subspan(item.first_column / cache.block_tokens()),
            .block_rows = cache.block_tokens(),
            .keys_offset = cache.strip_offset(item.kv_head, 0),
            .values_offset = cache.strip_offset(item.kv_head, 1)};
  }
  const std::size_t row_bytes = task.cache->row_bytes();
  const std::size_t skipped = item.first_column * row_bytes;
  return {.type = task.cache->type(),
          .keys = task.cache->keys(layer, item.kv_head) + skipped,
          .values = task.cache->values(layer, item.kv_head) + skipped,
          .row_bytes = row_bytes,
          .columns = item.columns,
          .channels = channels_};
}

void Attention::fill_rows(const Item& item, const AttentionTask& task, const float* queries,
                          std::size_t layer, std::span<kernels::AttentionRow> rows) {
  const std::size_t stride = round_up(item.columns, 16);
  float* unobserved = unobserved_.data() + ThreadPool::current() * unobserved_stride_;
  const std::size_t before = task.size(layer, item.kv_head) - task.tokens;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::size_t head = item.kv_head * (config_.heads / config_.kv_heads) + r / item.tokens;
    const std::size_t token = item.first_token + r % item.tokens;
    const std::size_t seen = before + token + 1;
    const std::size_t visible = seen - std::min(seen, item.first_column);
    rows[r].query = queries + ((task.first_row + token) * config_.heads + head) * channels_;
    rows[r].probabilities = task.observed
                                ? probabilities(item.task, head, token) + item.first_column
                                : unobserved + r * stride;
    rows[r].output = &outputs_[(item.first_row + r) * channels_];
    rows[r].visible = std::min(item.columns, visible);
  }
}

void Attention::merge(const Merge& merge) noexcept {
  float maximum = -std::numeric_limits<float>::infinity();
  const auto row_of = [&](std::size_t i) -> const kernels::AttentionRow& {
    return rows_[items_[merge.first_item + i].first_row + merge.row];
  };
  for (std::size_t i = 0; i < merge.items; ++i) maximum = std::max(maximum, row_of(i).maximum);
  float sum = 0;
  for (std::size_t i = 0; i < merge.items; ++i) {
    sum += row_of(i).sum * std::exp(row_of(i).maximum - maximum);
  }
  std::fill_n(merge.out, config_.head_dim, 0.0f);
  for (std::size_t i = 0; i < merge.items; ++i) {
    const Item& item = items_[merge.first_item + i];
    const float factor = std::exp(row_of(i).maximum - maximum) / sum;
    kernels::add_scaled(merge.out, row_of(i).output, config_.head_dim, factor);
    if (merge.probabilities != nullptr) {
      kernels::scale(merge.probabilities + item.first_column, item.columns, factor);
    }
  }
  *merge.lse = maximum + std::log(sum);
}

}  // namespace decoder
