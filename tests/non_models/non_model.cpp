// Does not compile: the message must name what the cache lacks, or has with another signature, or
// what the scorer lacks that a budget asks for.
#include <lethe/budget/dispersion.hpp>
#include <lethe/budget/flat_heads.hpp>
#include <lethe/lethe.hpp>
#include <lethe/score/window_shift.hpp>

#if defined(LACKS_WINDOW_STATISTICS)
using Scorer = lethe::WindowMass;
#else
using Scorer = lethe::WindowShift;
#endif

struct Cache {
#if !defined(LACKS_LAYERS)
  std::size_t layers() const { return 1; }
#endif
#if !defined(LACKS_SIZE)
  std::size_t size(std::size_t) const { return 0; }
#endif
#if !defined(LACKS_APPLY)
  void apply(std::span<const lethe::EvictionPlan>) {}
#endif
#if !defined(LACKS_HEADS)
  std::size_t heads(std::size_t) const { return 1; }
#endif
  std::size_t size(std::size_t, std::size_t) const { return 0; }
#if defined(LACKS_STATE)
  int state(std::size_t) const { return 0; }
#endif
#if defined(LACKS_SHARED_PREFIX)
  std::size_t shared_prefix(std::size_t) { return 0; }
#endif
};

int main() {
  lethe::policies::Lethe pruner{{.layers = 1, .capacity = 64}};
  Cache cache;
  pruner.make_room(cache, 1);
  lethe::Pruner<Scorer, lethe::DispersionBudget> shared{
      {.layers = 1, .capacity = 64}, {}, {}, {.total = 50}};
  shared.make_room(cache, 1);
  lethe::Pruner<Scorer, lethe::FlatHeads<lethe::UniformBudget>> apart{
      {.layers = 1, .capacity = 64, .scope = lethe::Scope::head}, {}, {}, {}};
  apart.make_room(cache, 1);
}
