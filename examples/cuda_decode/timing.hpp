/// Times of decode steps with the whole cache and with Lethe, beside what their bytes allow.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "stepper.hpp"

namespace cuda_decode {

struct TimingSettings {
  std::vector<std::uint32_t> batches;
  std::vector<std::uint32_t> contexts;  ///< tokens that each sequence has read
  std::uint32_t bound = 2048;           ///< most tokens of a layer under Lethe
  std::uint32_t room = 16;              ///< steps that a round makes room for
  std::uint32_t steps = 64;             ///< timed with the whole cache
};

/// Measures every batch at every context, on random keys and values. Under Lethe it times as many
/// steps as lie between two rounds at the bound, so that one round is among them. A case that the
/// device's memory does not hold says how much it wants.
/// @throws decoder::Error where the model itself does not fit
[[nodiscard]] nlohmann::json time_steps(Backend& backend, const ModelSource& source,
                                        const TimingSettings& settings);

/// Tables of what time_steps returns.
[[nodiscard]] std::string timing_tables(const nlohmann::json& results);

}  // namespace cuda_decode
