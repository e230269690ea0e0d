/// Scores without probabilities: the last queries and their log-sum-exps are kept, and scored in
/// one pass over the keys before anything moves. Exact, and works with flash attention.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lethe/archive.hpp"
#include "lethe/attention.hpp"
#include "lethe/score.hpp"

namespace lethe {

/// Settings of deferred scoring; off while queries is 0.
struct DeferredConfig {
  /// Queries kept for each layer before they are scored (16 fills a tensor-core tile).
  std::size_t queries = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dimension = 0;

  bool operator==(const DeferredConfig&) const = default;
};

namespace detail {

inline constexpr std::size_t key_tile = 64;
inline constexpr std::size_t key_strip = 16;
using KeyStrip = std::array<float, key_strip>;

/// Four queries times one strip of keys.
inline void dot_strip(const float* const* query, const float* LETHE_RESTRICT keys,
                      std::size_t dimension, std::array<KeyStrip, 4>& out) {
  KeyStrip a{};
  KeyStrip b{};
  KeyStrip c{};
  KeyStrip d{};
  for (std::size_t channel = 0; channel < dimension; ++channel) {
    const float* LETHE_RESTRICT key = keys + channel * key_tile;
    const float qa = query[0][channel];
    const float qb = query[1][channel];
    const float qc = query[2][channel];
    const float qd = query[3][channel];
    for (std::size_t k = 0; k < key_strip; ++k) {
      a[k] += qa * key[k];
      b[k] += qb * key[k];
      c[k] += qc * key[k];
      d[k] += qd * key[k];
    }
  }
  out = {a, b, c, d};
}

}  // namespace detail

/// A ring of queries for each layer. Nothing is allocated after construction.
class DeferredQueries {
 public:
  DeferredQueries(const DeferredConfig& config, std::size_t layers)
      : config_(config),
        layers_(layers),
        entries_(layers * config.queries),
        queries_(layers * config.queries * config.heads * config.head_dimension, 0.0f),
        lse_(layers * config.queries * config.heads, 0.0f),
        rows_(config.queries != 0 ? detail::key_tile * config.head_dimension : 0),
        columns_(rows_.size(), 0.0f),
        tile_(config.queries != 0
                  ? config.queries * (config.heads / config.kv_heads) * detail::key_tile
                  : 0) {}

  [[nodiscard]] bool active() const { return config_.queries != 0; }
  [[nodiscard]] std::size_t capacity() const { return config_.queries; }
  [[nodiscard]] std::size_t waiting(std::size_t layer) const { return layers_[layer].count; }

  /// Keeps a step's queries; base: tokens of the layer before the step; number: queries committed.
  /// The ring must have room for them.
  template <class Element>
  void push(std::size_t layer, const Queries<Element>& seen, std::size_t base,
            std::int64_t number) {
    for (std::size_t q = 0; q < seen.queries; ++q) {
      LETHE_ASSERT(layers_[layer].count < config_.queries);
      const std::size_t slot = layer * config_.queries + layers_[layer].count++;
      const std::size_t query = seen.first_query + q;
      entries_[slot] = {.number = number + static_cast<std::int64_t>(query),
                        .limit = base + query + 1,
                        .scale = scale_of(seen),
                        .softcap = seen.softcap};
      copy_query(seen, q, slot);
    }
  }

  /// Keeps those queries of the step begun at `number` that were accepted, renumbered by rank.
  void commit(std::size_t layer, std::size_t base, std::int64_t number,
              std::span<const std::uint32_t> accepted) {
    std::uint64_t kept = 0;
    for (std::uint64_t i = 0; i < layers_[layer].count; ++i) {
      const Entry& entry = entries_[layer * config_.queries + i];
      const std::int64_t query = entry.number - number;
      const auto place = std::find(accepted.begin(), accepted.end(), query);
      if (query >= 0 && place == accepted.end()) continue;
      const std::uint64_t to = kept++;
      move_entry(layer, i, to);
      if (query < 0) continue;
      const auto rank = static_cast<std::size_t>(place - accepted.begin());
      entries_[layer * config_.queries + to].number = number + static_cast<std::int64_t>(rank);
      entries_[layer * config_.queries + to].limit = base + rank + 1;
    }
    layers_[layer].count = kept;
  }

  /// Scores the waiting queries of a layer in one pass over its keys and empties the ring.
  /// read_keys(kv_head, first_slot, out); number: queries committed; O(queries x heads x n x d).
  template <class ReadKeys, class Sink>
  void flush(std::size_t layer, std::size_t groups, std::int64_t number, ReadKeys&& read_keys,
             Sink&& sink) {
    std::size_t end = 0;
    for (std::size_t i = 0; i < layers_[layer].count; ++i) {
      end = std::max(end, entries_[layer * config_.queries + i].limit);
    }
    for (std::size_t kv_head = 0; end != 0 && kv_head < config_.kv_heads; ++kv_head) {
      for (std::size_t begin = 0; begin < end; begin += detail::key_tile) {
        const std::size_t count = std::min(detail::key_tile, end - begin);
        const std::span<float> rows = std::span(rows_).first(count * config_.head_dimension);
        read_keys(kv_head, begin, rows);
        detail::transpose<detail::key_tile>(rows.data(), count, config_.head_dimension,
                                            columns_.data());
        score_tile(layer, kv_head, groups, number, begin, count, sink);
      }
    }
    layers_[layer].count = 0;
  }

  void reset() { std::fill(layers_.begin(), layers_.end(), Layer{}); }

  template <class Archive, class Self>
  static void archive(Archive& archive, Self& self) {
    archive(self.layers_);
    archive(self.entries_);
    archive(self.queries_);
    archive(self.lse_);
  }

  /// Whether a layer's restored entries stay within its `tokens`, and their numbers below `number`.
  [[nodiscard]] bool valid(std::size_t layer, std::size_t tokens, std::int64_t number) const {
    if (layers_[layer].count > config_.queries) return false;
    for (std::size_t i = 0; i < layers_[layer].count; ++i) {
      const Entry& entry = entries_[layer * config_.queries + i];
      if (entry.limit > tokens || entry.number >= number || entry.number < 0) return false;
    }
    return true;
  }

 private:
  struct Layer {
    std::uint64_t count = 0;
  };

  struct Entry {
    std::int64_t number = 0;
    std::uint64_t limit = 0;
    float scale = 1;
    float softcap = 0;
  };

  template <class Element>
  [[nodiscard]] static float scale_of(const Queries<Element>& seen) {
    return seen.scale != 0.0f ? seen.scale
                              : 1.0f / std::sqrt(static_cast<float>(seen.head_dimension));
  }

  template <class Element>
  void copy_query(const Queries<Element>& observed, std::size_t q, std::size_t slot) {
    const Queries<Element> seen = detail::packed(observed);
    LETHE_ASSERT(seen.data != nullptr && seen.lse != nullptr);
    const std::size_t lse_stride = seen.lse_head_stride != 0 ? seen.lse_head_stride : seen.queries;
    for (std::size_t head = 0; head < config_.heads; ++head) {
      float* out = query_row(slot, head);
      const Element* row = seen.data + head * seen.head_stride + q * seen.query_stride;
      for (std::size_t c = 0; c < config_.head_dimension; ++c) out[c] = to_float(row[c]);
      lse_[slot * config_.heads + head] =
          detail::natural(seen.lse[head * lse_stride + q * seen.lse_query_stride], seen.base);
    }
  }

  [[nodiscard]] float* query_row(std::size_t slot, std::size_t head) {
    return queries_.data() + (slot * config_.heads + head) * config_.head_dimension;
  }

  void move_entry(std::size_t layer, std::size_t from, std::size_t to) {
    if (from == to) return;
    const std::size_t source = layer * config_.queries + from;
    const std::size_t target = layer * config_.queries + to;
    entries_[target] = entries_[source];
    std::copy_n(query_row(source, 0), config_.heads * config_.head_dimension, query_row(target, 0));
    std::copy_n(lse_.data() + source * config_.heads, config_.heads,
                lse_.data() + target * config_.heads);
  }

  /// One tile of keys of one KV head against every waiting query.
  template <class Sink>
  void score_tile(std::size_t layer, std::size_t kv_head, std::size_t groups, std::int64_t number,
                  std::size_t begin, std::size_t count, Sink&& sink) {
    const std::size_t each = config_.heads / config_.kv_heads;
    const std::size_t group_heads = std::min(each, config_.heads / groups);
    tile_logits(layer, kv_head * each, each);
    for (std::size_t i = 0; i < layers_[layer].count; ++i) {
      const std::size_t slot = layer * config_.queries + i;
      const Entry& entry = entries_[slot];
      if (entry.limit <= begin) continue;
      const std::size_t visible = std::min<std::size_t>(count, entry.limit - begin);
      for (std::size_t h = 0; h < each; h += group_heads) {
        const std::size_t head = kv_head * each + h;
        sum_group(slot, head, i * each + h, group_heads);
        sink(entry.number - number, head * groups / config_.heads, begin,
             std::span<const float>(tile_.data() + (i * each + h) * detail::key_tile, visible));
      }
    }
  }

  /// Logits of `heads` query heads of every waiting query on the tile, four rows at a time.
  void tile_logits(std::size_t layer, std::size_t first, std::size_t heads) {
    const std::size_t count = layers_[layer].count * heads;
    const auto row = [&](std::size_t i) {
      const std::size_t in_range = std::min(i, count - 1);
      return query_row(layer * config_.queries + in_range / heads, first + in_range % heads);
    };
    std::array<detail::KeyStrip, 4> out;
    for (std::size_t i = 0; i < count; i += 4) {
      const std::array<const float*, 4> rows{row(i), row(i + 1), row(i + 2), row(i + 3)};
      for (std::size_t k = 0; k < detail::key_tile; k += detail::key_strip) {
        detail::dot_strip(rows.data(), columns_.data() + k, config_.head_dimension, out);
        for (std::size_t r = 0; r < std::min<std::size_t>(4, count - i); ++r) {
          std::copy(out[r].begin(), out[r].end(), tile_.data() + (i + r) * detail::key_tile + k);
        }
      }
    }
  }

  /// Turns the logits of a group's heads into probabilities and sums them into the first one's row.
  void sum_group(std::size_t slot, std::size_t head, std::size_t row, std::size_t heads) {
    const Entry& entry = entries_[slot];
    std::array<float, detail::key_tile> logit;
    for (std::size_t h = 0; h < heads; ++h) {
      float* out = tile_.data() + (row + h) * detail::key_tile;
      detail::scaled_logits(logit.data(), out, 1, detail::key_tile, entry.scale, entry.softcap);
      detail::put_exponentials(tile_.data() + row * detail::key_tile, logit.data(),
                               detail::key_tile, lse_[slot * config_.heads + head + h], h != 0);
    }
  }

  DeferredConfig config_;
  std::vector<Layer> layers_;
  std::vector<Entry> entries_;
  std::vector<float> queries_;
  std::vector<float> lse_;
  std::vector<float> rows_;
  std::vector<float> columns_;
  std::vector<float> tile_;
};

}  // namespace lethe
