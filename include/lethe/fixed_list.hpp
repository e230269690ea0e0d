/// A list that never grows past the room it was made with, also after a copy.
#pragma once

#include <cstddef>
#include <vector>

#include "lethe/config.hpp"

namespace lethe::detail {

template <class Item>
class FixedList {
 public:
  explicit FixedList(std::size_t room) : items_(room) {}

  void push_back(const Item& item) {
    LETHE_ASSERT(size_ < items_.size());
    items_[size_++] = item;
  }
  /// Takes the last item off.
  Item pop_back() {
    LETHE_ASSERT(size_ != 0);
    return items_[--size_];
  }
  void clear() { size_ = 0; }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] Item& front() { return items_[0]; }
  [[nodiscard]] Item& operator[](std::size_t i) { return items_[i]; }
  [[nodiscard]] Item* begin() { return items_.data(); }
  [[nodiscard]] Item* end() { return items_.data() + size_; }
  [[nodiscard]] const Item* begin() const { return items_.data(); }
  [[nodiscard]] const Item* end() const { return items_.data() + size_; }
  [[nodiscard]] const Item* data() const { return items_.data(); }

 private:
  std::vector<Item> items_;
  std::size_t size_ = 0;
};

}  // namespace lethe::detail
