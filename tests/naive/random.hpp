/// Random numbers for tests: the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace naive {

/// xorshift64*, seeded through a multiplication so that small seeds differ.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_((seed + 1) * 0x9E3779B97F4A7C15u) {}

  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1Du;
  }

  /// In [0, end).
  std::size_t below(std::size_t end) { return static_cast<std::size_t>((next() >> 16) % end); }
  /// In [first, last].
  std::size_t between(std::size_t first, std::size_t last) {
    return first + below(last - first + 1);
  }
  bool chance(std::size_t percent) { return below(100) < percent; }
  /// Multiples of 2^-20 in [0, 1).
  float unit() { return static_cast<float>(below(1u << 20)) * 0x1p-20f; }

  template <class Item>
  const Item& pick(const std::vector<Item>& items) {
    return items[below(items.size())];
  }

 private:
  std::uint64_t state_;
};

}  // namespace naive
