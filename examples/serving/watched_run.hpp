#pragma once

#include "engine.hpp"

namespace serving {

/// serve_layered that also keeps where each layer's blocks lay (RunResults::layer_moments).
///
/// A moment that is kept takes O(layers x running requests).
RunResults serve_watched(const Trace& trace, const Profile& profile,
                         const LayeredSettings& settings, const ServeProgress& progress = {});

}  // namespace serving
