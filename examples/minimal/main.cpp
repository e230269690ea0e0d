// A toy decoder with a real attention loop, and lethe in it: look for "lethe:".
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <lethe/lethe.hpp>
#include <random>
#include <span>
#include <vector>

constexpr std::size_t depth = 4, dimension = 32, steps = 3000, bound = 512;

// Keys and values of every layer, one row a token.
struct Cache {
  std::vector<std::vector<float>> keys{depth}, values{depth};

  // lethe: what a cache must offer.
  std::size_t layers() const { return keys.size(); }
  std::size_t size(std::size_t layer) const { return keys[layer].size() / dimension; }
  void apply(std::span<const lethe::EvictionPlan> plans) {
    for (const lethe::EvictionPlan& plan : plans) {
      pack(keys[plan.layer], plan);
      pack(values[plan.layer], plan);
    }
  }

  static void pack(std::vector<float>& rows, const lethe::EvictionPlan& plan) {
    auto* bytes = reinterpret_cast<std::byte*>(rows.data());
    lethe::compact_bytes(bytes, dimension * sizeof(float), dimension * sizeof(float), plan);
    rows.resize(plan.kept.size() * dimension);
    rows.shrink_to_fit();  // the memory is really given back
  }
};

// Softmax over query x keys: the attention each cached token receives.
std::vector<float> attend(std::span<const float> query, std::span<const float> keys) {
  std::vector<float> probability(keys.size() / dimension);
  float sum = 0;
  for (std::size_t token = 0; token < probability.size(); ++token) {
    float dot = 0;
    for (std::size_t c = 0; c < dimension; ++c) dot += query[c] * keys[token * dimension + c];
    sum += probability[token] = std::exp(dot / std::sqrt(static_cast<float>(dimension)));
  }
  for (float& p : probability) p /= sum;
  return probability;
}

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto vector = [&](float size) {
    std::vector<float> row(dimension);
    for (float& value : row) value = size * normal(random);
    return row;
  };
  const auto append = [](std::vector<float>& rows, const std::vector<float>& row) {
    rows.insert(rows.end(), row.begin(), row.end());
  };

  Cache cache;
  std::size_t rounds = 0;
  // lethe: one pruner a sequence.
  lethe::policies::Lethe pruner{{.layers = depth, .capacity = bound}};

  for (std::size_t step = 0; step < steps; ++step) {
    rounds += pruner.make_room(cache, 1) != 0;  // lethe: before the token is appended
    for (std::size_t layer = 0; layer < depth; ++layer) {
      append(cache.keys[layer], vector(1));
      append(cache.values[layer], vector(1));
      // Deeper layers look more sharply.
      const std::vector<float> query = vector(1 + static_cast<float>(layer));
      const std::vector<float> probability = attend(query, cache.keys[layer]);
      // lethe: what attention did.
      pruner.observe(layer, {.data = probability.data(), .columns = probability.size()});
    }
    pruner.commit();  // lethe: the step counts
  }

  std::printf("%zu tokens decoded, %zu rounds of pruning\n", steps, rounds);
  for (std::size_t layer = 0; layer < depth; ++layer) {
    std::size_t old = 0;
    for (const lethe::Position position : pruner.positions(layer)) old += position + bound < steps;
    std::printf("layer %zu keeps %zu tokens in %zu KiB, %zu of them from before the last %zu\n",
                layer, cache.size(layer), 2 * cache.keys[layer].size() * sizeof(float) / 1024, old,
                bound);
  }
}
