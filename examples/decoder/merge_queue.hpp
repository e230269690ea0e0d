#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace decoder {

/// A run of bytes of the text being tokenized: a token, or bytes that are none yet (-1).
struct Symbol {
  std::int32_t token = -1;
  std::uint32_t begin = 0;   ///< first byte in the text
  std::uint32_t length = 0;  ///< bytes; 0 once merged into the symbol to its left
  std::int32_t previous = -1;
  std::int32_t next = -1;
};

/// A merge that two neighbouring symbols allow.
struct Merge {
  double cost = 0;          ///< cheapest first, leftmost among equals
  std::int32_t token = -1;  ///< what they become; -1 when they may not merge
};

/// Merges neighbouring symbols, always the cheapest pair first, until none may merge. O(n log n).
class MergeQueue {
 public:
  /// Empties the sequence, keeping its memory.
  void clear() {
    symbols_.clear();
    heap_.clear();
  }

  /// Appends a symbol to the right of the others.
  void push(std::int32_t token, std::uint32_t begin, std::uint32_t length) {
    const auto index = static_cast<std::int32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({token, begin, length, index - 1, -1});
  }

  /// Runs all merges; `join(left, right)` says what two neighbouring symbols become.
  template <class Join>
  void run(Join join) {
    for (std::size_t i = 0; i + 1 < symbols_.size(); ++i) offer(static_cast<std::int32_t>(i), join);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate best = heap_.back();
      heap_.pop_back();
      if (stale(best)) continue;
      absorb_next(best.left, best.token);
      if (at(best.left).previous >= 0) offer(at(best.left).previous, join);
      offer(best.left, join);
    }
  }

  /// Calls `receive(symbol)` for each symbol that is left, in order.
  template <class Receive>
  void each(Receive receive) const {
    for (const Symbol& symbol : symbols_) {
      if (symbol.length > 0) receive(symbol);
    }
  }

 private:
  struct Candidate {
    double cost;
    std::int32_t left;
    std::int32_t right;
    std::uint32_t length;  // bytes of both when offered: any change since makes them more
    std::int32_t token;
  };

  static bool later(const Candidate& a, const Candidate& b) noexcept {
    return a.cost != b.cost ? a.cost > b.cost : a.left > b.left;
  }

  Symbol& at(std::int32_t index) { return symbols_[static_cast<std::size_t>(index)]; }

  bool stale(const Candidate& candidate) {
    const Symbol& left = at(candidate.left);
    return left.length == 0 || left.next != candidate.right ||
           left.length + at(candidate.right).length != candidate.length;
  }

  template <class Join>
  void offer(std::int32_t left, Join& join) {
    const std::int32_t right = at(left).next;
    if (right < 0) return;
    const Merge merge = join(at(left), at(right));
    if (merge.token < 0) return;
    heap_.push_back({merge.cost, left, right, at(left).length + at(right).length, merge.token});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }

  void absorb_next(std::int32_t index, std::int32_t token) {
    Symbol& left = at(index);
    Symbol& right = at(left.next);
    left.token = token;
    left.length += right.length;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) at(left.next).previous = index;
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace decoder
