// What a decode step's attention costs until it is in the scores, all layers one after another.
#include <cmath>
#include <memory>
#include <string>

#include "rows.hpp"
#include "world.hpp"

namespace gpu_bench {
namespace {

/// Of the first and the last layer and sequence a few tokens, beside double precision.
void check(const Bench& bench, const World& world, const Attention& attention) {
  world.restore();
  attention.observe(world);
  bench.finish();
  const Case& sizes = bench.sizes();
  for (const std::uint32_t layer : {0u, sizes.layers - 1}) {
    for (const std::uint32_t row : {0u, sizes.batch - 1}) {
      const std::size_t first = world.state().number(layer, row) * world.state().shape.capacity;
      for (std::uint32_t token = 0; token < sizes.tokens; token += sizes.tokens / 8 - 1) {
        float score = 0;
        require(cudaMemcpy(&score, world.state().scores + first + token, sizeof score,
                           cudaMemcpyDeviceToHost),
                "cudaMemcpy");
        const double before = static_cast<double>(world.scores()[first + token]);
        const double expected = attention.expected(before, layer, row, token);
        require(std::abs(static_cast<double>(score) - expected) <= 1e-4 * expected,
                "a score of layer " + std::to_string(layer));
      }
    }
  }
}

Row measure(const std::string& name, const Bench& bench, Attention::Kind kind, bool by_layer) {
  const World world(bench);
  const Attention attention(bench, kind);
  check(bench, world, attention);
  const std::uint32_t parts = by_layer ? bench.sizes().layers : 1;
  const Turns turns = bench.turns({[&] { bench.read(attention.bytes(), parts); }},
                                  {[&] { attention.observe(world); }, [&] { world.restore(); }});
  const Target target = by_layer ? Target{} : Target{Limit::most_ratio, 1.2};
  return row_of(name, turns, target, static_cast<double>(attention.bytes()));
}

Entry entry(const std::string& name, Attention::Kind kind, bool by_layer) {
  return {name, [=](const std::string& row, const Bench& bench) {
            return measure(row, bench, kind, by_layer);
          }};
}

}  // namespace

Entries observe_entries() {
  return {entry("observe/logits", Attention::Kind::logits, false),
          entry("observe/logits, floor by layer", Attention::Kind::logits, true),
          entry("observe/probabilities", Attention::Kind::probabilities, false)};
}

}  // namespace gpu_bench
