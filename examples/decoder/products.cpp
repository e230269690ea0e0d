#include "products.hpp"

#include <algorithm>

namespace decoder {

void ProductInput::resize(std::size_t tokens, std::size_t columns) {
  tokens_ = tokens;
  columns_ = columns;
  values_.resize(tokens * columns);
  if (columns % block_columns != 0) return;
  bytes_.resize(tokens * columns * 2);
  scales_.resize(tokens * columns / block_columns);
  sums_.resize(scales_.size());
  first_sums_.resize(scales_.size());
}

void ProductInput::quantise(std::size_t token) noexcept {
  if (columns_ % block_columns != 0) return;
  kernels::quantise(&values_[token * columns_], columns_,
                    {.tokens = tokens_,
                     .bytes = &bytes_[token * kernels::token_block_bytes],
                     .scales = &scales_[token],
                     .sums = &sums_[token],
                     .first_sums = &first_sums_[token]});
}

kernels::Activations ProductInput::view() const noexcept {
  return {.tokens = tokens_,
          .columns = columns_,
          .values = values_.data(),
          .bytes = bytes_.data(),
          .scales = scales_.data(),
          .sums = sums_.data(),
          .first_sums = first_sums_.data()};
}

void multiply(ThreadPool& pool, const ProductInput& input,
              std::initializer_list<Product> products) {
  std::size_t panels = 0;
  for (const Product& product : products) panels += product.matrix->panels();
  // Eight ranges a thread even out what other programs take from it.
  const std::size_t grain = std::clamp<std::size_t>(panels / (pool.threads() * 8), 1, 64);
  const kernels::Activations activations = input.view();
  pool.parallel_for(panels, grain, [&](std::size_t first, std::size_t last) {
    std::size_t start = 0;
    for (const Product& product : products) {
      const std::size_t end = start + product.matrix->panels();
      const std::size_t from = std::max(first, start);
      const std::size_t to = std::min(last, end);
      if (from < to) {
        kernels::multiply(*product.matrix, activations, from - start, to - start, product.out,
                          product.matrix->rows);
      }
      start = end;
    }
  });
}

}  // namespace decoder
