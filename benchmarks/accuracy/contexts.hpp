/// Texts that state what is asked once they are read, for models of natural language.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "problems.hpp"

namespace accuracy {

/// What is asked of a text by whoever has read it.
struct Question {
  /// How the question begins.
  std::string given;
  /// What must follow, to the token.
  std::string answer;
  /// The newest line that states it.
  std::size_t line = 0;
};

/// A text, and questions that are no part of it.
struct Context {
  /// What the text begins with: the part that may be pinned.
  std::string heading;
  /// The rest; each line with its end.
  std::vector<std::string> lines;
  /// Lines said once more before the questions, so that a model sees what it is asked to do; of
  /// other lines than the questions.
  std::vector<std::string> examples;
  std::vector<Question> questions;
};

/// How many tokens a text has. Lines are measured one by one.
using Measure = std::function<std::size_t(const std::string&)>;

/// The text of this task, size and seed: the same everywhere, for equal measures.
/// task: of context_tasks; size: as many lines as fit in size.steps tokens, then size.variables
/// questions on lines evenly spread over them, behind size.lines examples; for Task::fewshot on new
/// words of size.lines kinds, without examples.
/// Throws std::invalid_argument for a size out of range.
[[nodiscard]] Context make_context(Task task, const ProblemSize& size, std::uint64_t seed,
                                   const Measure& measure);

}  // namespace accuracy
