#pragma once

#include <cstddef>
#include <cstdint>
#include <lethe/layerkv/block_tables.hpp>

namespace serving {

/// A request that has arrived and is not finished.
struct Live {
  std::uint32_t index = 0;  ///< in the trace
  std::uint32_t input = 0;
  std::uint32_t output = 0;
  std::uint32_t known = 0;     ///< tokens whose values are known: the prompt and what was generated
  std::uint32_t computed = 0;  ///< tokens that are, or will be after the steps under way, computed
  std::uint32_t ahead = 0;     ///< tokens that steps under way will generate
  std::uint32_t published = 0;  ///< blocks that the prefix index knows
  std::uint32_t preemptions = 0;
  /// In the block tables, while it runs or is swapped.
  lethe::layerkv::RequestId id = lethe::layerkv::no_id;
  bool was_scheduled = false;

  std::uint32_t longest() const { return input + output; }
  /// Whether the steps under way generate its last token.
  bool is_ending() const { return ahead > 0 && computed + 2 - ahead >= longest(); }
  /// Tokens that are not computed yet.
  std::uint32_t missing() const { return known + ahead - computed; }
};

}  // namespace serving
