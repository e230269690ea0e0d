#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "page.hpp"

namespace serving {

/// Maps of blocks by layer and time, one a tier, of those runs whose layers ever differ; the others
/// are named. All maps of a tier share their colours and their time. O(moments x layers).
///
/// @param runs  of one rate
/// @param rate  a number of that rate alone in the page
std::string layer_maps(std::span<const ComparedRun* const> runs, std::size_t rate);

}  // namespace serving
