#pragma once

#include <cstddef>
#include <lethe/layerkv/cost_model.hpp>
#include <lethe/layerkv/costs.hpp>
#include <lethe/layerkv/placement.hpp>
#include <vector>

#include "profile.hpp"

namespace serving {

using PrefillRows = std::vector<lethe::layerkv::Measured<lethe::layerkv::PrefillWork>>;
using DecodeRows = std::vector<lethe::layerkv::Measured<lethe::layerkv::DecodeWork>>;
using CopyRows = std::vector<lethe::layerkv::Measured<lethe::layerkv::CopyWork>>;

/// What a machine's steps take: prompts of 64 to 2048 tokens behind 0 to 16384.
PrefillRows prefill_rows(const StepTimes& times);
/// The same of decoding batches of 1 to 256 with 64 to 16384 tokens each.
DecodeRows decode_rows(const StepTimes& times);

/// How well costs say what a machine's steps take: mean relative errors.
struct FittedCosts {
  lethe::layerkv::Costs costs;
  double prefill_error = 0;
  double decode_error = 0;
};

/// The library's cost model, fitted to the rows above. Copies are the link's bandwidth and the
/// library's default for a fragment.
FittedCosts fit_costs(const Profile& profile);

/// The cache as each GPU keeps it; a copy moves `fragment_bytes` that lie together (0: a block).
lethe::layerkv::CacheShape cache_shape(const Profile& profile, std::size_t block_tokens,
                                       std::size_t fragment_bytes);

}  // namespace serving
