#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace decoder::report {

/// Divergence against cache bytes and against speed, one point per run; "" without fidelity.
std::string cost_fidelity(const nlohmann::json& results);

/// Cache bytes and speed over the text, one line per run.
std::string cost_over_time(const nlohmann::json& results);

/// Divergence and agreement over the text, one line per pruned run.
std::string fidelity_over_time(const nlohmann::json& results);

/// Kept tokens and sparsity, layer by time, of the run `run`; "" without them.
std::string layer_maps(const nlohmann::json& run);

}  // namespace decoder::report
