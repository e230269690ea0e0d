#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "lethe/attention.hpp"
#include "samples.hpp"

/// One layer's attention by the book, in double: random keys and queries, one query a token.
struct ToyAttention {
  std::size_t heads = 6;
  std::size_t kv_heads = 2;
  std::size_t dimension = 16;
  std::size_t tokens = 0;
  float scale = 0.25f;
  float softcap = 0.0f;
  lethe::LogBase base = lethe::LogBase::e;
  std::vector<float> keys{};
  std::vector<float> queries{};

  void draw(Samples& samples) {
    keys = samples.row(kv_heads * tokens * dimension, -1.5f, 1.5f);
    queries = samples.row(heads * tokens * dimension, -1.5f, 1.5f);
  }

  const float* key(std::size_t kv_head, std::size_t token) const {
    return keys.data() + (kv_head * tokens + token) * dimension;
  }
  const float* query(std::size_t head, std::size_t token) const {
    return queries.data() + (head * tokens + token) * dimension;
  }

  double raw(std::size_t head, std::size_t token, std::size_t slot) const {
    const float* k = key(head * kv_heads / heads, slot);
    const float* q = query(head, token);
    double dot = 0;
    for (std::size_t c = 0; c < dimension; ++c) {
      dot += static_cast<double>(q[c]) * static_cast<double>(k[c]);
    }
    return dot;
  }
  double logit(std::size_t head, std::size_t token, std::size_t slot) const {
    const double x = raw(head, token, slot) * static_cast<double>(scale);
    const auto cap = static_cast<double>(softcap);
    return cap == 0 ? x : cap * std::tanh(x / cap);
  }
  double sum(std::size_t head, std::size_t token) const {
    double total = 0;
    for (std::size_t slot = 0; slot <= token; ++slot) total += std::exp(logit(head, token, slot));
    return total;
  }
  float lse(std::size_t head, std::size_t token) const {
    const double total = sum(head, token);
    return static_cast<float>(base == lethe::LogBase::two ? std::log2(total) : std::log(total));
  }
  /// Attention that `token` pays to every slot up to itself, from the heads of one group.
  std::vector<double> mass(std::size_t token, std::size_t group, std::size_t groups) const {
    std::vector<double> received(token + 1, 0.0);
    const std::size_t each = heads / groups;
    for (std::size_t head = group * each; head < (group + 1) * each; ++head) {
      const double total = sum(head, token);
      for (std::size_t slot = 0; slot <= token; ++slot) {
        received[slot] += std::exp(logit(head, token, slot)) / total;
      }
    }
    return received;
  }
};
