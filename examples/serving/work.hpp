#pragma once

#include <string>

#include "metrics.hpp"
#include "options.hpp"
#include "policy.hpp"
#include "profile.hpp"
#include "trace.hpp"

namespace serving {

/// The trace that the options ask for, cut and sped up.
Trace trace_of(const WorkOptions& options);

/// The same requests at a mean rate, requests a second; 0: as they are. Throws
/// decoder::Error when all arrive at once.
Trace at_rate(Trace trace, double rate);

Profile profile_of(const MachineOptions& options);
/// Reads --costs; throws decoder::Error for a bad file, and where both it and --link-gb say what
/// copies take.
PolicySettings policy_settings(const ServiceOptions& options, const MachineOptions& machine);
Objectives objectives_of(const ServiceOptions& options);

/// serve_policy with a progress bar.
RunResults serve_shown(const std::string& policy, const Trace& trace, const Profile& profile,
                       const PolicySettings& settings);

}  // namespace serving
