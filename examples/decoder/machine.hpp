#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace decoder {

/// Bytes of this process that are in memory now (resident set); 0 where the system does not say.
std::size_t resident_set_bytes();

/// Processor, cores, memory, system and compiler, as figures need them beside them.
///
/// @param threads  threads that compute
nlohmann::json describe_machine(unsigned threads);

/// The time now as "2026-01-31 12:34 UTC".
std::string date_now();

}  // namespace decoder
