#pragma once

#include <cstddef>
#include <functional>

#include "engine_settings.hpp"
#include "profile.hpp"
#include "results.hpp"
#include "trace.hpp"

namespace serving {

/// Serves a trace on a machine, step by step, with whole-request allocation as vLLM does it.
///
/// A request that can never fit is refused when it arrives.
/// @param progress  told the number of finished requests now and then; may be empty
/// Complexity: O(steps x running requests + blocks); memory O(trace + live requests).
RunResults serve(const Trace& trace, const Profile& profile, const EngineSettings& settings,
                 const std::function<void(std::size_t)>& progress = {});

}  // namespace serving
