// Attention over a pruned cache is attention over the survivors, in every kind of cache.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "lethe/cache/contiguous.hpp"
#include "lethe/cache/paged.hpp"
#include "lethe/lethe.hpp"
#include "naive/random.hpp"

namespace {

constexpr std::size_t layers = 2;
constexpr std::size_t query_heads = 4;
constexpr std::size_t kv_heads = 2;
constexpr std::size_t dimension = 8;
constexpr std::size_t capacity = 64;
constexpr std::size_t block_tokens = 8;
constexpr std::size_t steps = 300;

/// Exact in 16 bits as well.
template <class Element>
Element element_of(int sixteenths) {
  const float value = static_cast<float>(sixteenths) / 16.0f;
  if constexpr (std::is_same_v<Element, float>) {
    return value;
  } else {
    for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
      const lethe::Half half{static_cast<std::uint16_t>(bits)};
      if (lethe::to_float(half) == value) return half;
    }
    return {};
  }
}

/// Every key and value ever made: [layer][token][head][channel].
struct History {
  std::vector<int> keys;
  std::vector<int> values;
  [[nodiscard]] static std::size_t at(std::size_t layer, std::size_t token, std::size_t head) {
    return ((layer * steps + token) * kv_heads + head) * dimension;
  }
};

History make_history() {
  naive::Random random(4);
  History history;
  for (std::size_t i = 0; i < layers * steps * kv_heads * dimension; ++i) {
    // Few tokens of layer 0 draw all attention, layer 1 is spread out: they are pruned unequally.
    const bool layer_0 = i < steps * kv_heads * dimension;
    const bool dull = layer_0 && i % dimension == 0 && !random.chance(12);
    history.keys.push_back(static_cast<int>(random.below(9)) - (dull ? 32 : 4));
    history.values.push_back(static_cast<int>(random.below(33)) - 16);
  }
  return history;
}

/// Softmax attention of one query head; the probabilities are left in `probability`.
std::vector<double> attend(std::span<const float> query, const std::vector<float>& keys,
                           const std::vector<float>& values, std::vector<float>& probability) {
  const std::size_t n = keys.size() / dimension;
  std::vector<double> weight(n);
  double sum = 0;
  for (std::size_t t = 0; t < n; ++t) {
    double dot = 0;
    for (std::size_t c = 0; c < dimension; ++c)
      dot += double(query[c]) * double(keys[t * dimension + c]);
    sum += weight[t] = std::exp(dot / std::sqrt(double(dimension)));
  }
  std::vector<double> out(dimension, 0.0);
  for (std::size_t t = 0; t < n; ++t) {
    probability.push_back(static_cast<float>(weight[t] / sum));
    for (std::size_t c = 0; c < dimension; ++c) {
      out[c] += weight[t] / sum * double(values[t * dimension + c]);
    }
  }
  return out;
}

/// A contiguous cache; values lie transposed, as some engines keep them.
template <class Element>
struct Contiguous {
  Contiguous() : keys(layers, Rows(kv_heads * capacity * dimension)), values(keys) {
    std::vector<lethe::ContiguousLayer<Element>> rows;
    for (std::size_t l = 0; l < layers; ++l) {
      rows.push_back(
          {.keys = keys[l].data(),
           .values = values[l].data(),
           .heads = kv_heads,
           .dimension = dimension,
           .key_strides = {.token = kv_heads * dimension, .head = dimension},
           .value_strides = {.token = 1, .head = dimension * capacity, .channel = capacity},
           .capacity = capacity});
    }
    view.emplace_back(rows);
  }
  lethe::ContiguousCache<Element>& cache() { return view[0]; }
  void write(std::size_t layer, std::size_t slot, std::size_t head, std::size_t c, Element k,
             Element v) {
    keys[layer][(slot * kv_heads + head) * dimension + c] = k;
    values[layer][(head * dimension + c) * capacity + slot] = v;
  }
  void reserve(std::size_t) {}

  using Rows = std::vector<Element>;
  std::vector<Rows> keys;
  std::vector<Rows> values;
  std::vector<lethe::ContiguousCache<Element>> view;
};

/// A pool of blocks for both layers, handed out from a free list.
template <class Element>
struct Paged {
  struct Return {
    std::vector<std::vector<std::uint32_t>>* free;
    void operator()(std::size_t layer, std::uint32_t block) const {
      (*free)[layer].push_back(block);
    }
  };
  using Cache = lethe::PagedCache<Element, Return>;

  Paged() : keys(layers, Rows(capacity * kv_heads * dimension)), values(keys), free(layers) {
    constexpr std::size_t block = block_tokens * kv_heads * dimension;
    const lethe::Strides strides{.token = dimension, .head = block_tokens * dimension};
    std::vector<lethe::PagedLayer<Element>> rows;
    for (std::size_t l = 0; l < layers; ++l) {
      for (std::uint32_t b = 0; b < capacity / block_tokens; ++b) free[l].push_back(b);
      rows.push_back({.keys = keys[l].data(),
                      .values = values[l].data(),
                      .heads = kv_heads,
                      .dimension = dimension,
                      .key_strides = strides,
                      .value_strides = strides,
                      .key_block_stride = block,
                      .value_block_stride = block});
    }
    view.emplace_back(rows, block_tokens, capacity / block_tokens, Return{&free});
  }
  Paged(const Paged&) = delete;
  Cache& cache() { return view[0]; }
  void reserve(std::size_t layer) {
    if (cache().size(layer) < cache().table(layer).size() * block_tokens) return;
    REQUIRE(!free[layer].empty());
    cache().add_block(layer, free[layer].back());
    free[layer].pop_back();
  }
  void write(std::size_t layer, std::size_t slot, std::size_t head, std::size_t c, Element k,
             Element v) {
    cache().key_row(layer, head, slot)[c] = k;
    cache().value_row(layer, head, slot)[c] = v;
  }

  using Rows = std::vector<Element>;
  std::vector<Rows> keys;
  std::vector<Rows> values;
  std::vector<std::vector<std::uint32_t>> free;
  std::vector<Cache> view;
};

/// What a layer's head should hold, from the history alone.
std::vector<float> survivors(const std::vector<int>& rows, std::size_t layer, std::size_t head,
                             std::span<const lethe::Position> positions, std::size_t token) {
  std::vector<float> result;
  const auto put = [&](std::size_t position) {
    for (std::size_t c = 0; c < dimension; ++c) {
      result.push_back(static_cast<float>(rows[History::at(layer, position, head) + c]) / 16.0f);
    }
  };
  for (const lethe::Position position : positions) put(position);
  put(token);
  return result;
}

template <class Engine>
void append(Engine& engine, const History& history, std::size_t layer, std::size_t token) {
  using Element = std::remove_reference_t<decltype(engine.keys[0][0])>;
  engine.reserve(layer);
  const std::size_t slot = engine.cache().size(layer);
  engine.cache().append(layer, 1);
  for (std::size_t head = 0; head < kv_heads; ++head) {
    for (std::size_t c = 0; c < dimension; ++c) {
      const std::size_t i = History::at(layer, token, head) + c;
      engine.write(layer, slot, head, c, element_of<Element>(history.keys[i]),
                   element_of<Element>(history.values[i]));
    }
  }
}

/// Attention of one layer in both ways; returns the probabilities of all query heads.
template <class Engine, class Pruner>
std::vector<float> check_layer(Engine& engine, const Pruner& pruner, const History& history,
                               naive::Random& random, std::size_t layer, std::size_t token) {
  const std::size_t n = engine.cache().size(layer);
  std::vector<float> probabilities;
  std::vector<float> ignored;
  for (std::size_t h = 0; h < query_heads; ++h) {
    const std::size_t head = h * kv_heads / query_heads;
    const std::size_t set = pruner.config().scope == lethe::Scope::head ? head : 0;
    std::vector<float> query(dimension);
    for (float& value : query) value = random.unit() * 4 - 2;
    query[0] = 12;
    std::vector<float> keys(n * dimension);
    std::vector<float> values(keys.size());
    engine.cache().read_keys(layer, head, 0, keys);
    engine.cache().read_values(layer, head, 0, values);
    const auto positions = pruner.positions(layer, set);
    const auto out = attend(query, keys, values, probabilities);
    REQUIRE(out == attend(query, survivors(history.keys, layer, head, positions, token),
                          survivors(history.values, layer, head, positions, token), ignored));
  }
  return probabilities;
}

template <class Engine>
void decode(lethe::Scope scope) {
  const History history = make_history();
  Engine engine;
  lethe::policies::Lethe pruner(
      {.layers = layers, .capacity = capacity, .groups = kv_heads, .scope = scope},
      {.sparsity_ratio = 5, .first_threshold = 32});
  naive::Random random(1);
  std::size_t unequal = 0;
  for (std::size_t token = 0; token < steps; ++token) {
    pruner.make_room(engine.cache(), 1);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      append(engine, history, layer, token);
      const std::vector<float> p = check_layer(engine, pruner, history, random, layer, token);
      pruner.observe(layer,
                     {.data = p.data(), .heads = query_heads, .columns = p.size() / query_heads});
    }
    pruner.commit();
    unequal += pruner.size(0) != pruner.size(1) ? 1u : 0u;
  }
  CHECK(unequal > steps / 4);
  CHECK(pruner.size(0) + pruner.size(1) < steps);
}

}  // namespace

TEST_CASE("Attention over a pruned contiguous cache is attention over the survivors") {
  decode<Contiguous<float>>(lethe::Scope::layer);
  decode<Contiguous<lethe::Half>>(lethe::Scope::layer);
}

TEST_CASE("Attention over a pruned paged cache is attention over the survivors") {
  decode<Paged<float>>(lethe::Scope::layer);
}

TEST_CASE("Attention of heads that keep sets of their own is over each one's survivors") {
  decode<Contiguous<float>>(lethe::Scope::head);
  decode<Paged<float>>(lethe::Scope::head);
}
