/// What a cache holds over time.
#pragma once

#include <algorithm>
#include <cstddef>

#include "attempt.hpp"
#include "kv_cache.hpp"

namespace accuracy {

/// Adds up what a cache holds, step by step.
class Holdings {
 public:
  void add(const decoder::KVCache& cache) {
    for (std::size_t layer = 0; layer < cache.layers(); ++layer) {
      sum_ += static_cast<double>(cache.mean_size(layer));
      peak_ = std::max(peak_, cache.mean_size(layer));
      ++count_;
    }
    bytes_ = std::max(bytes_, cache.resident_bytes());
  }

  /// Writes the mean over layers and steps, and the peaks.
  void tell(Attempt& attempt) const {
    attempt.mean_kept = count_ != 0 ? sum_ / static_cast<double>(count_) : 0;
    attempt.peak_kept = peak_;
    attempt.peak_bytes = bytes_;
  }

 private:
  double sum_ = 0;
  std::size_t count_ = 0;
  std::size_t peak_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace accuracy
