/// Numbers by which requests and migrations go.
#pragma once

#include <cstdint>

namespace lethe::layerkv {

/// A request: an index below BlockTablesConfig::requests, used again after close.
using RequestId = std::uint32_t;
/// A migration: used again after it is finished or cancelled.
using MigrationId = std::uint32_t;
/// Neither.
inline constexpr std::uint32_t no_id = 0xFFFFFFFFu;

}  // namespace lethe::layerkv
