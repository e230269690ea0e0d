#pragma once

#include <cstddef>
#include <lethe/layerkv/costs.hpp>
#include <optional>
#include <string>

#include "cost_fit.hpp"

namespace serving {

/// Measured passes: CSV with tokens, context (that the cache held before them) and seconds.
///
/// @throws decoder::Error naming file and row, as all here do: a heading that lacks, cells that are
///         no counts, no tokens, seconds outside 1e-9 to 3600
PrefillRows read_prefill_rows(const std::string& path);
/// Measured decode steps: CSV with sequences, context (tokens read, over all of them) and seconds.
DecodeRows read_decode_rows(const std::string& path);
/// Measured copies: CSV with bytes, fragments, copies (calls that enqueue) and seconds.
CopyRows read_copy_rows(const std::string& path);

/// Costs as far as they are known.
struct PartialCosts {
  std::optional<lethe::layerkv::PrefillCost> prefill;
  std::optional<lethe::layerkv::DecodeCost> decode;
  std::optional<lethe::layerkv::CopyCost> copy;
};

/// Reads what `serving fit` wrote: a JSON object with prefill, decode and copy, or some of them,
/// each with the three coefficients of the library's struct of that name, in seconds.
///
/// @throws decoder::Error naming the file and the field: no JSON, none of the three, a coefficient
///         that is missing or not 0 to 3600
PartialCosts read_costs(const std::string& path);

/// `costs`, where `known` says nothing else.
lethe::layerkv::Costs completed(const PartialCosts& known, const lethe::layerkv::Costs& costs);

}  // namespace serving
