#pragma once

#include "options.hpp"
#include "trace.hpp"

namespace serving {

/// The trace that the options ask for, cut and sped up.
Trace trace_of(const WorkOptions& options);

}  // namespace serving
