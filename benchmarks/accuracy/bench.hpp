/// Runs cells: one model, many problems, on several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "cell.hpp"
#include "model.hpp"

namespace accuracy {

/// One problem to work through.
struct Job {
  Cell cell;
  std::uint64_t seed = 0;
};

/// Works through one job. decoder: one of the model's.
/// Throws decoder::Error when the policy cannot work within the budget.
[[nodiscard]] nlohmann::json run(const Job& job, const decoder::Model& model,
                                 decoder::Decoder& decoder);

/// Works through all jobs on `threads` threads; done(row) is called under a lock, in any order.
/// Stops early, without a word, when Ctrl-C was pressed. The first error is thrown at the end.
void run_all(const std::vector<Job>& jobs, const decoder::Model& model, unsigned threads,
             const std::function<void(const nlohmann::json&)>& done);

}  // namespace accuracy
