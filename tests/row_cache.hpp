/// A cache of keys and values in vectors, and what scores made of them must rank first.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "lethe/cache_view.hpp"
#include "samples.hpp"

/// One token in one head.
struct CachedRow {
  lethe::Position position = 0;
  std::vector<float> key{};
  std::vector<float> value{};
};

/// Layers of heads of rows.
class RowCache {
 public:
  RowCache(std::size_t layers, std::size_t heads)
      : rows(layers, std::vector<std::vector<CachedRow>>(heads)) {}

  [[nodiscard]] std::size_t layers() const { return rows.size(); }
  [[nodiscard]] std::size_t size(std::size_t layer) const { return rows[layer][0].size(); }
  [[nodiscard]] std::size_t heads(std::size_t layer) const { return rows[layer].size(); }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      for (std::size_t head = 0; head < heads(plan.layer); ++head) {
        if (plan.head == lethe::all_heads || plan.head == head) pack(rows[plan.layer][head], plan);
      }
    }
  }
  void read_keys(std::size_t layer, std::size_t head, std::size_t first,
                 std::span<float> out) const {
    ++key_reads;
    read(layer, head, first, out, &CachedRow::key);
  }
  void read_values(std::size_t layer, std::size_t head, std::size_t first,
                   std::span<float> out) const {
    ++value_reads;
    read(layer, head, first, out, &CachedRow::value);
  }

  void append(std::size_t layer, std::size_t head, CachedRow row) {
    rows[layer][head].push_back(std::move(row));
  }

  [[nodiscard]] std::vector<lethe::Position> positions(std::size_t layer,
                                                       std::size_t head = 0) const {
    std::vector<lethe::Position> found;
    for (const CachedRow& row : rows[layer][head]) found.push_back(row.position);
    return found;
  }

  std::vector<std::vector<std::vector<CachedRow>>> rows;
  mutable std::size_t key_reads = 0;
  mutable std::size_t value_reads = 0;

 private:
  static void pack(std::vector<CachedRow>& head, const lethe::EvictionPlan& plan) {
    std::vector<CachedRow> packed;
    for (const lethe::Slot slot : plan.kept) packed.push_back(head.at(slot));
    head = packed;
  }

  void read(std::size_t layer, std::size_t head, std::size_t first, std::span<float> out,
            std::vector<float> CachedRow::*row) const {
    const std::size_t width = (rows[layer][head].at(first).*row).size();
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = (rows[layer][head].at(first + i / width).*row)[i % width];
    }
  }
};

/// One whose heads may hold unequal counts.
class UnequalRowCache : public RowCache {
 public:
  using RowCache::RowCache;

  [[nodiscard]] std::size_t size(std::size_t layer, std::size_t head) const {
    return rows[layer][head].size();
  }
  [[nodiscard]] std::size_t size(std::size_t layer) const {
    std::size_t longest = 0;
    for (const std::vector<CachedRow>& head : rows[layer]) longest = std::max(longest, head.size());
    return longest;
  }
};
static_assert(lethe::UnequalHeadsCache<UnequalRowCache>);

/// One that puts a layer's next token into a slot it is told of; positions then do not ascend.
class OverwritingRowCache : public RowCache {
 public:
  OverwritingRowCache(std::size_t layers, std::size_t heads)
      : RowCache(layers, heads), vacant_(layers, none) {}

  void overwrite(std::size_t layer, lethe::Slot slot) { vacant_[layer] = slot; }

  void append(std::size_t layer, std::size_t head, CachedRow row) {
    const std::size_t slot = vacant_[layer];
    if (slot == none) return RowCache::append(layer, head, std::move(row));
    rows[layer][head][slot] = std::move(row);
    if (head + 1 == heads(layer)) vacant_[layer] = none;
  }

 private:
  static constexpr std::size_t none = ~std::size_t{0};
  std::vector<std::size_t> vacant_;
};

/// Channels between -1 and 1 about a mean of their own, scaled by the token.
inline std::vector<float> draw_row(Samples& samples, std::size_t channels) {
  const float size = samples.between(0.2f, 2.0f);
  std::vector<float> row = samples.row(channels, -1.0f, 1.0f);
  for (std::size_t c = 0; c < channels; ++c) {
    row[c] = size * (row[c] + 0.3f * static_cast<float>(c % 3));
  }
  return row;
}

/// A new token in every head of every layer.
template <class Cache>
void append_token(Cache& cache, Samples& samples, lethe::Position position,
                  std::size_t key_channels, std::size_t value_channels) {
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    for (std::size_t head = 0; head < cache.heads(layer); ++head) {
      std::vector<float> key = draw_row(samples, key_channels);
      cache.append(layer, head, {position, std::move(key), draw_row(samples, value_channels)});
    }
  }
}

/// A head in double precision, oldest token first.
struct NaiveHead {
  std::size_t layer = 0;
  std::size_t head = 0;
  std::vector<lethe::Position> positions{};
  std::vector<std::vector<double>> keys{};
  std::vector<std::vector<double>> values{};
};

using NaiveScores = std::function<std::vector<double>(const NaiveHead&)>;

inline NaiveHead naive_head(const RowCache& cache, std::size_t layer, std::size_t head) {
  std::vector<CachedRow> rows = cache.rows[layer][head];
  std::sort(rows.begin(), rows.end(),
            [](const CachedRow& a, const CachedRow& b) { return a.position < b.position; });
  NaiveHead result{.layer = layer, .head = head};
  for (const CachedRow& row : rows) {
    result.positions.push_back(row.position);
    result.keys.emplace_back(row.key.begin(), row.key.end());
    result.values.emplace_back(row.value.begin(), row.value.end());
  }
  return result;
}

/// Naive scores of heads first to last - 1, summed, slot by slot.
inline std::vector<double> naive_sum(const RowCache& cache, std::size_t layer, std::size_t first,
                                     std::size_t last, const NaiveScores& naive) {
  const std::vector<lethe::Position> slots = cache.positions(layer, first);
  std::vector<double> sum(slots.size(), 0.0);
  for (std::size_t head = first; head < last; ++head) {
    const NaiveHead rows = naive_head(cache, layer, head);
    const std::vector<double> scores = naive(rows);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const auto slot = std::find(slots.begin(), slots.end(), rows.positions[i]);
      sum[static_cast<std::size_t>(slot - slots.begin())] += scores[i];
    }
  }
  return sum;
}

/// Whether the kept are the best: protected tokens, then by score (as near as `tolerance`), then
/// the older. kept: positions that are left.
inline bool keeps_best(const std::vector<double>& scores,
                       const std::vector<lethe::Position>& positions,
                       const std::vector<lethe::Position>& kept, std::size_t first_tokens,
                       std::size_t recent_tokens, double tolerance) {
  std::vector<lethe::Position> sorted = positions;
  std::sort(sorted.begin(), sorted.end());
  const lethe::Position recent_begin = sorted[sorted.size() - recent_tokens];
  std::vector<std::size_t> chosen;
  std::vector<std::size_t> dropped;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const bool stays = std::find(kept.begin(), kept.end(), positions[i]) != kept.end();
    const bool held = positions[i] < first_tokens || positions[i] >= recent_begin;
    if (held && !stays) return false;
    if (!held) (stays ? chosen : dropped).push_back(i);
  }
  for (const std::size_t gone : dropped) {
    for (const std::size_t i : chosen) {
      if (scores[i] < scores[gone] - tolerance) return false;
      if (scores[i] == scores[gone] && positions[i] > positions[gone]) return false;
    }
  }
  return kept.size() + dropped.size() == positions.size();
}
