/// Rows of one length in one uninitialised array.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

namespace lethe::layerkv::detail {

/// What is never written never takes memory, where the system hands out pages as they are touched;
/// so rows may be as long as the longest could ever be.
template <class Item>
class RawRows {
  static_assert(std::is_trivially_default_constructible_v<Item>);

 public:
  RawRows(std::size_t rows, std::size_t length)
      : length_(length), items_(new Item[rows * length]) {}

  [[nodiscard]] std::span<Item> operator[](std::size_t row) {
    return {items_.get() + row * length_, length_};
  }
  [[nodiscard]] std::span<const Item> operator[](std::size_t row) const {
    return {items_.get() + row * length_, length_};
  }

 private:
  std::size_t length_;
  std::unique_ptr<Item[]> items_;
};

}  // namespace lethe::layerkv::detail
