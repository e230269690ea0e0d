/// Matrix products of a batch, shared among threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels.hpp"
#include "thread_pool.hpp"

namespace decoder {

/// The rows that go into a matrix product, as floats and rounded to two bytes each.
class ProductInput {
 public:
  /// Makes room for [tokens][columns].
  void resize(std::size_t tokens, std::size_t columns);
  /// Returns a token's floats, to be written.
  [[nodiscard]] float* row(std::size_t token) noexcept { return &values_[token * columns_]; }
  /// Rounds a token's floats to two bytes each; call it once they are written.
  void quantise(std::size_t token) noexcept;
  [[nodiscard]] kernels::Activations view() const noexcept;

 private:
  std::size_t tokens_ = 0;
  std::size_t columns_ = 0;
  std::vector<float> values_;
  std::vector<std::int8_t> bytes_;
  std::vector<float> scales_;
  std::vector<float> sums_;
  std::vector<float> first_sums_;
};

/// One matrix and where its product goes: [tokens][matrix rows].
struct Product {
  const Matrix* matrix = nullptr;
  float* out = nullptr;
};

/// Multiplies several matrices with the same rows. O(tokens * weights).
void multiply(ThreadPool& pool, const ProductInput& input, std::initializer_list<Product> products);

}  // namespace decoder
