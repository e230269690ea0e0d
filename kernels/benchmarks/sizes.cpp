#include "sizes.hpp"

#include <stdexcept>
#include <string>

namespace gpu_bench {

std::uint64_t needed_bytes(const Case& sizes) {
  const std::uint64_t tokens = std::uint64_t{sizes.layers} * sizes.batch * sizes.tokens;
  // A state, its plans and its copies take less than 40 bytes a token, tables 2; waiting queries
  // hardly more than logits, in whose place they are. And what the runtime keeps for itself.
  constexpr std::uint64_t rest = 256u << 20;
  return sizes.cache_bytes() + sizes.layers * sizes.logit_bytes() + 48 * tokens + rest;
}

Case fitted(Case sizes, std::uint64_t free_bytes) {
  while (needed_bytes(sizes) > free_bytes) {
    if (sizes.batch > 1) {
      sizes.batch /= 2;
    } else if (sizes.tokens >= 2048) {
      sizes.tokens /= 2;
      sizes.kept /= 2;
    } else {
      throw std::runtime_error("device memory: " + std::to_string(free_bytes) +
                               " bytes are free, the smallest case takes " +
                               std::to_string(needed_bytes(sizes)));
    }
  }
  return sizes;
}

}  // namespace gpu_bench
