/// Waiting queries become scores, tile by tile of tokens: what the two ways of scoring share, and
/// the one that makes the same bits as the host's lethe::DeferredQueries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "lethe/gpu/block.cuh"
#include "lethe/gpu/compact_block.cuh"
#include "lethe/gpu/flush.hpp"
#include "lethe/gpu/observe_block.cuh"
#include "lethe/gpu/query_ring.hpp"
#include "lethe/gpu/ring_block.cuh"

namespace lethe::gpu::detail {

/// Queries whose mass is made at a time: the rows of a tensor core's tile.
inline constexpr unsigned tile_queries = 16;

/// The mass that up to 16 queries paid to a tile of tokens, and the weights of all that wait.
template <unsigned Tokens>
struct TileShared {
  float mass[tile_queries][Tokens];
  float weights[most_waiting];
};

/// A ring that is scored, and the tile of tokens that a block scores.
struct FlushTask {
  std::size_t number = 0;
  CompactPlace place{};
  std::uint32_t waiting = 0;
  /// Tokens of the layer, and the first of the tile.
  std::uint32_t tokens = 0;
  std::uint32_t first_token = 0;
};

/// The task of block (tile, row, layer of the launch); false where it has none. Nothing that this
/// reads is written by the launch.
template <class Element, class Key>
[[nodiscard]] LETHE_BLOCK_CODE bool find_task(const Flush<Element, Key>& flush,
                                              std::uint32_t first_token, std::uint32_t row,
                                              std::uint32_t layer, FlushTask& task) {
  task.place.layer = flush.layer == every_layer ? layer : flush.layer;
  if (!slot_of_row(flush.batch, flush.state.shape.slots, row, task.place.slot)) return false;
  task.number = flush.state.number(task.place.layer, task.place.slot);
  task.tokens = flush.state.lengths[task.number];
  task.first_token = first_token;
  if (first_token >= task.tokens || !is_flushed(flush, task.number)) return false;
  task.waiting = flush.ring.counts[task.number];
  return true;
}

/// The scores of a task's layer, from its first token on.
template <class Element, class Key>
[[nodiscard]] LETHE_BLOCK_CODE float* task_scores(const Flush<Element, Key>& flush,
                                                  const FlushTask& task) {
  return flush.state.scores + task.number * flush.state.shape.capacity;
}

/// A KV head's keys of a task, as Rows reads them.
template <class Rows, class Element, class Key>
[[nodiscard]] LETHE_BLOCK_CODE Rows key_rows(const Flush<Element, Key>& flush,
                                             const FlushTask& task, std::uint32_t kv_head) {
  if constexpr (std::is_same_v<Rows, PageRows>) {
    return page_rows(flush.tables, task.number, flush.pages, task.place, kv_head);
  } else {
    return strip_rows(flush.strips, task.place, kv_head);
  }
}

/// The queries of a task.
template <class Element>
struct TaskQueries {
  const QueryRing<Element>& ring;
  const FlushTask& task;

  [[nodiscard]] LETHE_BLOCK_CODE std::uint32_t heads_each() const {
    return ring.shape.heads / ring.shape.kv_heads;
  }
  [[nodiscard]] LETHE_BLOCK_CODE const WaitingQuery& entry(std::uint32_t query) const {
    return ring.waiting[task.number * ring.shape.queries + query];
  }
  /// A head's channels; a query that does not wait has those of the last one that does.
  [[nodiscard]] LETHE_BLOCK_CODE const Element* channels(std::uint32_t head,
                                                         std::uint32_t query) const {
    const std::uint32_t given = query < task.waiting ? query : task.waiting - 1;
    return ring.channels + ring.row(task.number, head, given) * ring.shape.head_dimension;
  }
  /// What a head's share of a query's mass is the exponential of.
  [[nodiscard]] LETHE_BLOCK_CODE LETHE_EXACT float exponent(std::uint32_t head, std::uint32_t query,
                                                            float product) const {
    LETHE_EXACT_BODY
    const WaitingQuery& own = entry(query);
    const float lse = ring.lse[ring.row(task.number, head, query)];
    return scaled_logit(product, own.scale, own.softcap) - lse;
  }
};

/// The scores of a tile, a token a lane.
template <ThreadBlock Block, unsigned Tokens>
class TileScores {
  static_assert(Tokens <= Block::threads, "a token a lane");

 public:
  using Shared = TileShared<Tokens>;

  template <class Element>
  LETHE_BLOCK_CODE TileScores(const Block& block, Shared& shared, float* scores,
                              const TaskQueries<Element>& queries)
      : block_(block), shared_(shared), scores_(scores), task_(queries.task) {
    weigh(queries);
    block_.lanes([&](unsigned lane) {
      if (!holds(lane)) return;
      float score = scores_[task_.first_token + lane];
      for (std::uint32_t query = 0; query < task_.waiting; ++query) {
        const float factor = queries.entry(query).weight.factor;
        if (factor != 1.0f) score = lethe::detail::rescaled(score, factor);
      }
      score_(lane, 0) = score;
    });
  }

  /// The mass in shared memory is that of a KV head's query heads, summed, of up to 16 queries from
  /// `first` on. A token's KV heads add up here, one after another, each query by query.
  template <class Element>
  LETHE_BLOCK_CODE void add(const TaskQueries<Element>& queries, std::uint32_t first) {
    block_.lanes([&](unsigned lane) {
      if (!holds(lane)) return;
      float score = score_(lane, 0);
      for (unsigned i = 0; i < tile_queries && first + i < task_.waiting; ++i) {
        if (task_.first_token + lane >= queries.entry(first + i).limit) continue;
        score = with_mass(score, shared_.mass[i][lane], shared_.weights[first + i]);
      }
      score_(lane, 0) = score;
    });
  }

  LETHE_BLOCK_CODE void store() const {
    block_.lanes([&](unsigned lane) {
      if (holds(lane)) scores_[task_.first_token + lane] = score_(lane, 0);
    });
  }

 private:
  [[nodiscard]] LETHE_BLOCK_CODE bool holds(unsigned lane) const {
    return lane < Tokens && task_.first_token + lane < task_.tokens;
  }

  /// A weight on the scale of the newest: times the factors, powers of two, that came behind it.
  template <class Element>
  LETHE_BLOCK_CODE void weigh(const TaskQueries<Element>& queries) {
    block_.lanes([&](unsigned lane) {
      for (std::uint32_t query = lane; query < task_.waiting; query += Block::threads) {
        float weight = queries.entry(query).weight.weight;
        for (std::uint32_t later = query + 1; later < task_.waiting; ++later) {
          weight = LETHE_PRODUCT(weight, queries.entry(later).weight.factor);
        }
        shared_.weights[query] = weight;
      }
    });
  }

  const Block& block_;
  Shared& shared_;
  float* scores_;
  const FlushTask& task_;
  typename Block::template Registers<float, 1> score_;
};

/// Scores a tile of tokens: one read of the keys serves all queries and all heads of a KV head.
/// masses.take_keys(kv_head), then masses.put(first) for the mass of up to 16 queries.
template <ThreadBlock Block, unsigned Tokens, class Element, class Masses>
LETHE_BLOCK_CODE void score_tile(const Block& block, TileShared<Tokens>& shared, float* scores,
                                 const TaskQueries<Element>& queries, Masses& masses) {
  TileScores<Block, Tokens> tile(block, shared, scores, queries);
  for (std::uint32_t kv_head = 0; kv_head < queries.ring.shape.kv_heads; ++kv_head) {
    masses.take_keys(kv_head);
    for (std::uint32_t first = 0; first < queries.task.waiting; first += tile_queries) {
      masses.put(first);
      tile.add(queries, first);
    }
  }
  tile.store();
}

// The host's order of sums.

/// Tokens of a tile: one a lane of a warp, each warp with four queries of its own.
inline constexpr unsigned exact_tokens = 32;
inline constexpr unsigned exact_quad = 4;
/// Channels that lie in shared memory at a time, and the stride of one: 33 keeps the lanes that
/// write a key's channels out of each other's banks.
inline constexpr std::uint32_t staged_channels = 256;
inline constexpr std::uint32_t staged_stride = exact_tokens + 1;

struct ExactShared {
  TileShared<exact_tokens> tile;
  float keys[staged_channels * staged_stride];
};

/// sums[i] += row i times a key, channel by channel, both roundings made.
template <class Element>
LETHE_BLOCK_CODE LETHE_EXACT inline void add_products(float* sums, const Element* const* rows,
                                                      const float* keys, std::uint32_t channels) {
  LETHE_EXACT_BODY
  for (std::uint32_t channel = 0; channel < channels; ++channel) {
    const float key = keys[channel * staged_stride];
    LETHE_UNROLL for (unsigned i = 0; i < exact_quad; ++i) {
      sums[i] = sums[i] + LETHE_PRODUCT(to_float(rows[i][channel]), key);
    }
  }
}

/// Masses whose products are sums over channels in ascending order.
template <ThreadBlock Block, class Rows, class Element, class Key>
class ExactMasses {
  static_assert(Block::threads == tile_queries / exact_quad * exact_tokens);

 public:
  LETHE_BLOCK_CODE ExactMasses(const Block& block, ExactShared& shared,
                               const Flush<Element, Key>& flush,
                               const TaskQueries<Element>& queries)
      : block_(block), shared_(shared), flush_(flush), queries_(queries) {}

  LETHE_BLOCK_CODE void take_keys(std::uint32_t kv_head) {
    kv_head_ = kv_head;
    staged_ = none;
  }

  LETHE_BLOCK_CODE void put(std::uint32_t first) {
    block_.lanes_apart([&](unsigned lane) {
      for (unsigned i = 0; i < exact_quad; ++i) mass_(lane, i) = 0.0f;
    });
    const std::uint32_t each = queries_.heads_each();
    for (std::uint32_t head = kv_head_ * each; head < (kv_head_ + 1) * each; ++head) {
      multiply(first, head);
      block_.lanes_apart([&](unsigned lane) { add_head(lane, first, head); });
    }
    block_.lanes([&](unsigned lane) {
      for (unsigned i = 0; i < exact_quad; ++i) {
        shared_.tile.mass[quad_of(lane) + i][lane % exact_tokens] = mass_(lane, i);
      }
    });
  }

 private:
  static constexpr std::uint32_t none = 0xFFFFFFFFu;

  [[nodiscard]] LETHE_BLOCK_CODE static unsigned quad_of(unsigned lane) {
    return lane / exact_tokens * exact_quad;
  }

  LETHE_BLOCK_CODE void multiply(std::uint32_t first, std::uint32_t head) {
    const std::uint32_t dimension = queries_.ring.shape.head_dimension;
    block_.lanes_apart([&](unsigned lane) {
      for (unsigned i = 0; i < exact_quad; ++i) product_(lane, i) = 0.0f;
    });
    for (std::uint32_t begin = 0; begin < dimension; begin += staged_channels) {
      const std::uint32_t left = dimension - begin;
      const std::uint32_t channels = left < staged_channels ? left : staged_channels;
      stage(begin, channels);
      block_.lanes([&](unsigned lane) {
        const Element* rows[exact_quad];
        for (unsigned i = 0; i < exact_quad; ++i) {
          rows[i] = queries_.channels(head, first + quad_of(lane) + i) + begin;
        }
        add_products(&product_(lane, 0), rows, shared_.keys + lane % exact_tokens, channels);
      });
    }
  }

  /// Channels from `begin` on of the tile's keys, unless they are there.
  LETHE_BLOCK_CODE void stage(std::uint32_t begin, std::uint32_t channels) {
    if (staged_ == begin) return;
    staged_ = begin;
    const Rows rows = key_rows<Rows>(flush_, queries_.task, kv_head_);
    block_.lanes([&](unsigned lane) {
      for (std::uint32_t i = lane; i < exact_tokens * channels; i += Block::threads) {
        const std::uint32_t token = queries_.task.first_token + i / channels;
        if (token >= queries_.task.tokens) continue;
        const std::uint32_t channel = i % channels;
        shared_.keys[channel * staged_stride + i / channels] =
            to_float(load_chunk<Key>(rows.source(token) + (begin + channel) * sizeof(Key)));
      }
    });
  }

  LETHE_BLOCK_CODE LETHE_EXACT void add_head(unsigned lane, std::uint32_t first,
                                             std::uint32_t head) {
    LETHE_EXACT_BODY
    for (unsigned i = 0; i < exact_quad; ++i) {
      const std::uint32_t query = first + quad_of(lane) + i;
      if (query >= queries_.task.waiting) continue;
      mass_(lane, i) =
          mass_(lane, i) + exact_exp(queries_.exponent(head, query, product_(lane, i)));
    }
  }

  const Block& block_;
  ExactShared& shared_;
  const Flush<Element, Key>& flush_;
  const TaskQueries<Element>& queries_;
  std::uint32_t kv_head_ = 0;
  std::uint32_t staged_ = none;
  typename Block::template Registers<float, exact_quad> product_;
  typename Block::template Registers<float, exact_quad> mass_;
};

}  // namespace lethe::gpu::detail

namespace lethe::gpu {

/// A block of an exact flush: `tile` counts exact_tokens tokens. Rows: StripRows or PageRows.
template <class Rows, ThreadBlock Block, class Element, class Key>
LETHE_BLOCK_CODE void flush_exact_block(const Block& block, detail::ExactShared& shared,
                                        const Flush<Element, Key>& flush, std::uint32_t tile,
                                        std::uint32_t row, std::uint32_t layer) {
  detail::FlushTask task;
  if (!detail::find_task(flush, tile * detail::exact_tokens, row, layer, task)) return;
  const detail::TaskQueries<Element> queries{flush.ring, task};
  detail::ExactMasses<Block, Rows, Element, Key> masses(block, shared, flush, queries);
  detail::score_tile(block, shared.tile, detail::task_scores(flush, task), queries, masses);
}

}  // namespace lethe::gpu
