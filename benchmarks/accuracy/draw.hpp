/// Draws that are the same with every standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "symbols.hpp"

namespace accuracy {

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : engine_(seed) {}

  [[nodiscard]] std::size_t below(std::size_t count) { return engine_() % count; }
  [[nodiscard]] Token digit() { return static_cast<Token>(below(10)); }

  /// An index below count, drawn as 1 / (index + 1).
  [[nodiscard]] std::size_t popular(std::size_t count) {
    double total = 0;
    for (std::size_t i = 0; i < count; ++i) total += 1 / static_cast<double>(i + 1);
    double left = total * static_cast<double>(engine_() >> 11) * 0x1p-53;
    std::size_t index = 0;
    while (index + 1 < count && (left -= 1 / static_cast<double>(index + 1)) >= 0) ++index;
    return index;
  }

  /// The first `count` of 0 to `of` - 1 in random order.
  [[nodiscard]] std::vector<Token> sample(std::size_t count, std::size_t of) {
    std::vector<Token> all(of);
    for (std::size_t i = 0; i < of; ++i) all[i] = static_cast<Token>(i);
    for (std::size_t i = 0; i < count; ++i) std::swap(all[i], all[i + below(of - i)]);
    all.resize(count);
    return all;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace accuracy
