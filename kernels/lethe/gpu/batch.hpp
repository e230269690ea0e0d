/// Which state slots a batch's rows are, for every call that works on a batch.
#pragma once

#include <cstdint>

#include "lethe/config.hpp"

namespace lethe::gpu {

/// Which state slot each row of a batch is, in device memory: -1 for padding, no slot twice. Null:
/// row is slot.
struct Batch {
  const std::int32_t* slot_of_row = nullptr;
  std::uint32_t rows = 0;
};

namespace detail {

/// The grid's y and z end there.
inline constexpr std::uint32_t most_rows = 65535;

[[nodiscard]] constexpr const char* fault_of_batch(const Batch& batch, std::uint32_t slots) {
  if (batch.rows > most_rows) return "rows: a batch has at most 65535";
  if (batch.slot_of_row == nullptr && batch.rows > slots) {
    return "slot_of_row: give it where there are more rows than slots";
  }
  return nullptr;
}

/// The state slot of a row; false for padding, and for a row that names no slot.
[[nodiscard]] LETHE_HOST_DEVICE inline bool slot_of_row(const Batch& batch, std::uint32_t slots,
                                                        std::uint32_t row, std::uint32_t& slot) {
  const std::int32_t given =
      batch.slot_of_row != nullptr ? batch.slot_of_row[row] : static_cast<std::int32_t>(row);
  slot = static_cast<std::uint32_t>(given);
  return given >= 0 && slot < slots;
}

}  // namespace detail

}  // namespace lethe::gpu
