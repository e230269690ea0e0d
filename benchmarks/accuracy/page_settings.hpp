/// The end of the page: what was run, and how to run it again.
#pragma once

#include <string>

#include "page.hpp"
#include "results.hpp"

namespace accuracy {

/// Tables of models, tasks, policies, seeds and commands.
[[nodiscard]] std::string settings_of(const Results& results, const Source& source);

}  // namespace accuracy
