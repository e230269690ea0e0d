#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "toy_cache.hpp"

// Decodes `tokens` tokens whose attention favours every eighth one; false when a promise breaks.
template <class Pruner>
bool decode(Pruner& pruner, ToyCache& cache, std::size_t tokens) {
  std::vector<float> attention;
  for (std::size_t token = 0; token < tokens; ++token) {
    pruner.make_room(cache, 1);
    cache.append(static_cast<lethe::Position>(token));
    for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
      const auto rows = cache.rows(layer);
      if (rows.size() > pruner.bound(layer)) return false;
      attention.assign(rows.size(), 1.0F);
      for (std::size_t i = 0; i < rows.size(); ++i) attention[i] = rows[i] % 8 == 0 ? 0.01F : 1e-4F;
      pruner.observe(layer, lethe::Probabilities<float>{.data = attention.data(),
                                                        .heads = 1,
                                                        .queries = 1,
                                                        .columns = rows.size(),
                                                        .head_stride = rows.size(),
                                                        .query_stride = rows.size()});
    }
    pruner.commit();
  }
  for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
    if (!std::ranges::equal(pruner.positions(layer), cache.rows(layer))) return false;
  }
  return true;
}
