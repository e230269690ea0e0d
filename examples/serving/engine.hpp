#pragma once

#include <cstddef>
#include <functional>

#include "engine_settings.hpp"
#include "layered_settings.hpp"
#include "preemption_settings.hpp"
#include "profile.hpp"
#include "results.hpp"
#include "trace.hpp"

namespace serving {

/// Told the number of finished requests now and then; may be empty.
using ServeProgress = std::function<void(std::size_t)>;

/// Serves a trace on a machine, step by step, with whole-request allocation as vLLM does it.
///
/// A request that can never fit is refused when it arrives.
/// Complexity: O(steps x running requests + blocks); memory O(trace + live requests).
RunResults serve(const Trace& trace, const Profile& profile, const EngineSettings& settings,
                 const PreemptionSettings& preemption = {}, const ServeProgress& progress = {});

/// The same with a block table a layer; settings.longest is set here. O(layers) times as much.
RunResults serve_layered(const Trace& trace, const Profile& profile,
                         const LayeredSettings& settings, const ServeProgress& progress = {});

}  // namespace serving
