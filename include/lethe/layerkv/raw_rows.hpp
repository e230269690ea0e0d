/// Rows of one length in one uninitialised array.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

namespace lethe::layerkv::detail {

/// What is never written never takes memory, where the system hands out pages as they are touched;
/// so rows may be as long as the longest could ever be. A row takes an odd number of cache lines:
/// else the same item of all rows would fall into the same few sets of a cache.
template <class Item>
class RawRows {
  static_assert(std::is_trivially_default_constructible_v<Item>);

 public:
  RawRows(std::size_t rows, std::size_t length)
      : length_(length),
        stride_(((length + line - 1) / line | 1) * line),
        items_(std::allocator<Item>().allocate(rows * stride_), {rows * stride_}) {}

  [[nodiscard]] std::span<Item> operator[](std::size_t row) {
    return {items_.get() + row * stride_, length_};
  }
  [[nodiscard]] std::span<const Item> operator[](std::size_t row) const {
    return {items_.get() + row * stride_, length_};
  }

 private:
  /// Items of a cache line.
  static constexpr std::size_t line = sizeof(Item) < 64 ? 64 / sizeof(Item) : 1;

  struct GiveBack {
    std::size_t count;
    void operator()(Item* items) const { std::allocator<Item>().deallocate(items, count); }
  };

  std::size_t length_;
  std::size_t stride_;
  std::unique_ptr<Item, GiveBack> items_;
};

}  // namespace lethe::layerkv::detail
