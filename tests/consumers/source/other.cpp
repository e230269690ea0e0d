#include "decode.hpp"

bool decode_with_h2o() {
  ToyCache cache(2);
  lethe::policies::H2O pruner{lethe::PrunerConfig{.layers = 2, .capacity = 128},
                              lethe::H2OConfig{.budget = 64}};
  return decode(pruner, cache, 300);
}
