#include "decode.hpp"

bool decode_with_h2o();

int main() {
  ToyCache cache(2);
  lethe::policies::Lethe pruner{lethe::PrunerConfig{.layers = 2, .capacity = 128},
                                lethe::LetheConfig{}};
  const bool pruned = decode(pruner, cache, 300) && cache.size(0) < 300;
  return pruned && decode_with_h2o() ? 0 : 1;
}
