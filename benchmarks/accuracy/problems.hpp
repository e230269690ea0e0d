/// Problems with exact answers that punish a forgotten value: programs run step by step in a long
/// chain, and streams of writes and reads.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "symbols.hpp"

namespace accuracy {

enum class Task : std::uint8_t {
  /// A short program run for several rounds: short prompt, long chain.
  loop,
  /// The same; some values are written once, in the prompt, and asked for at the very end.
  once,
  /// Writes and reads of variables, with overwrites; gaps from short to very long.
  recall,
  /// Instructions that arrive when they are due, operands drawn by a power law.
  interleaved,
  /// Values of several records: many entries read alike and belong to another record.
  lookalike,
  /// Pushes and operations on a stack: values lie below others until these are gone.
  stack,
  /// Text, for models of natural language: numbers of names, each said once; some asked for.
  facts,
  /// Text: lines that are begun again, to be said as they were.
  repeated,
  /// Text: words and the labels of their kinds; new words to be labelled.
  fewshot,
};

inline constexpr std::array tasks{Task::loop,        Task::once,      Task::recall,
                                  Task::interleaved, Task::lookalike, Task::stack};
/// The tasks whose problems are texts: see contexts.hpp.
inline constexpr std::array context_tasks{Task::facts, Task::repeated, Task::fewshot};

[[nodiscard]] constexpr bool is_context(Task task) { return task >= Task::facts; }

[[nodiscard]] std::string_view name(Task task);
/// The task of that name, if there is one.
[[nodiscard]] std::optional<Task> find_task(std::string_view name);

/// What a symbol of a problem is to the model.
enum class Role : char {
  /// Read, never produced: prompt, instructions, writes.
  given = 'g',
  /// Follows from the program's shape.
  structure = 's',
  /// The newest value of a variable.
  lookup = 'l',
  /// The result of one operation.
  arithmetic = 'a',
};

struct Problem {
  std::vector<Token> symbols;
  std::vector<Role> roles;
  /// For a lookup, the newest symbol that states the value; else -1.
  std::vector<std::int32_t> sources;
  /// Symbols of the prompt: all before the chain or stream begins.
  std::size_t prompt = 0;
  /// The first symbol from which on lookups are answers; those before it are steps on the way.
  std::size_t answers_from = 0;
};

/// How large a problem is.
struct ProblemSize {
  /// Variables in use, 2 to 12; for Task::lookalike also the records; for Task::stack the places.
  /// Questions of a context.
  std::size_t variables = 4;
  /// Lines of a program, 1 to 16. Examples of a context; for Task::fewshot kinds of words.
  std::size_t lines = 4;
  /// Rounds of a program, 1 to 32; operations of a stream; instructions; tokens of a context.
  std::size_t steps = 4;
};

/// The problem of this task, size and seed: the same everywhere.
/// task: none of context_tasks. Throws std::invalid_argument for a size out of range.
[[nodiscard]] Problem make_problem(Task task, const ProblemSize& size, std::uint64_t seed);

}  // namespace accuracy
