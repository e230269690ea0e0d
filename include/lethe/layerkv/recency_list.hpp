/// Numbers in the order in which they came.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::layerkv::detail {

/// A doubly linked ring through an array, whose last place is its head. Every call is O(1).
class RecencyList {
 public:
  /// Empty, for numbers below `end`.
  explicit RecencyList(std::size_t end) : links_(end + 1), head_(static_cast<std::uint32_t>(end)) {
    links_[head_] = {head_, head_};
  }

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool contains(std::uint32_t number) const { return links_[number].older != none; }
  /// The number that came first; the list is not empty.
  [[nodiscard]] std::uint32_t oldest() const { return links_[head_].newer; }

  void push_newest(std::uint32_t number) {
    LETHE_ASSERT(!contains(number));
    const std::uint32_t newest = links_[head_].older;
    links_[number] = {newest, head_};
    links_[newest].newer = number;
    links_[head_].older = number;
    ++size_;
  }

  void remove(std::uint32_t number) {
    LETHE_ASSERT(contains(number));
    const Link link = links_[number];
    links_[link.older].newer = link.newer;
    links_[link.newer].older = link.older;
    links_[number] = {};
    --size_;
  }

 private:
  static constexpr std::uint32_t none = 0xFFFFFFFFu;

  struct Link {
    std::uint32_t older = none;
    std::uint32_t newer = none;
  };

  std::vector<Link> links_;
  std::uint32_t head_;
  std::size_t size_ = 0;
};

}  // namespace lethe::layerkv::detail
