/// A set of numbers below a fixed end, whose least member is found in a few steps.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::layerkv::detail {

/// One bit a number, and above every 64 of them one bit that says whether any is set; so on up to a
/// single word. Every call is O(log64(end)): 4 steps for 16 million numbers.
class IndexSet {
 public:
  static constexpr std::size_t none = ~std::size_t{0};

  /// Empty, for numbers below `end`; one number at least.
  explicit IndexSet(std::size_t end) {
    std::size_t count = end;
    do {
      count = (count + 63) / 64;
      starts_.push_back(words_.size());
      words_.resize(words_.size() + count, 0);
    } while (count > 1);
  }

  [[nodiscard]] bool empty() const { return words_.back() == 0; }
  [[nodiscard]] bool contains(std::size_t number) const {
    return (words_[number / 64] >> (number % 64) & 1u) != 0;
  }

  void insert(std::size_t number) {
    for (const std::size_t start : starts_) {
      std::uint64_t& word = words_[start + number / 64];
      const bool known = word != 0;
      word |= std::uint64_t{1} << (number % 64);
      if (known) return;
      number /= 64;
    }
  }

  void erase(std::size_t number) {
    for (const std::size_t start : starts_) {
      std::uint64_t& word = words_[start + number / 64];
      word &= ~(std::uint64_t{1} << (number % 64));
      if (word != 0) return;
      number /= 64;
    }
  }

  /// The least member; the set is not empty.
  [[nodiscard]] std::size_t first() const {
    LETHE_ASSERT(!empty());
    return descend(starts_.size(), 0);
  }

  /// The least member above `number`, or none.
  [[nodiscard]] std::size_t next(std::size_t number) const {
    for (std::size_t level = 0; level < starts_.size(); ++level) {
      const std::uint64_t above = ~std::uint64_t{1} << (number % 64);
      const std::uint64_t rest = words_[starts_[level] + number / 64] & above;
      number /= 64;
      if (rest != 0) {
        return descend(level, number * 64 + static_cast<std::size_t>(std::countr_zero(rest)));
      }
    }
    return none;
  }

 private:
  /// The least member under word `number` of the level below `level`.
  [[nodiscard]] std::size_t descend(std::size_t level, std::size_t number) const {
    while (level > 0) {
      --level;
      const std::uint64_t word = words_[starts_[level] + number];
      number = number * 64 + static_cast<std::size_t>(std::countr_zero(word));
    }
    return number;
  }

  std::vector<std::size_t> starts_;
  std::vector<std::uint64_t> words_;
};

}  // namespace lethe::layerkv::detail
