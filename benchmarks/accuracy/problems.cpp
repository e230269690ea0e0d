#include "problems.hpp"

#include <stdexcept>
#include <string>

#include "draw.hpp"

namespace accuracy {
namespace {

/// z = x op y.
struct Line {
  Token x, y, z;
  bool adds;
};

/// A problem in the making, with the value of every variable and where it was last stated.
class Writer {
 public:
  explicit Writer(std::size_t records = 1)
      : values_(records * variables, -1), stated_(values_.size(), -1) {
    give(begin_text);
  }

  void give(Token symbol) { put(symbol, Role::given); }
  void expect(Token symbol) { put(symbol, Role::structure); }

  [[nodiscard]] Token value(Token variable, std::size_t record = 0) const {
    return values_[record * variables + static_cast<std::size_t>(variable)];
  }

  /// States a new value.
  void write(Token variable, Token digit, Role role, std::size_t record = 0) {
    const std::size_t at = record * variables + static_cast<std::size_t>(variable);
    values_[at] = digit;
    put(value_of(variable, digit), role);
    stated_[at] = last();
  }

  /// States a known value again: the lookup.
  void look_up(Token variable, std::size_t record = 0) {
    const std::size_t at = record * variables + static_cast<std::size_t>(variable);
    put(value_of(variable, values_[at]), Role::lookup, stated_[at]);
    stated_[at] = last();
  }

  /// "f f=7 7": fetches an operand.
  void fetch(Token variable) {
    expect(name_of(variable));
    look_up(variable);
    expect(first_digit + value(variable));
  }

  /// "f f=7 7 + k k=2 2 > 9 a a=9"
  void execute(const Line& line) {
    fetch(line.x);
    expect(line.adds ? plus : minus);
    fetch(line.y);
    expect(arrow);
    const Token x = value(line.x), y = value(line.y);
    const Token result = (line.adds ? x + y : x - y + 10) % 10;
    put(first_digit + result, Role::arithmetic);
    expect(name_of(line.z));
    write(line.z, result, Role::structure);
  }

  /// "? k k=5"
  void answer(Token variable) {
    expect(ask);
    expect(name_of(variable));
    look_up(variable);
  }

  void end_prompt() { problem_.prompt = problem_.symbols.size(); }
  void begin_answers() { problem_.answers_from = problem_.symbols.size(); }
  [[nodiscard]] Problem take() { return std::move(problem_); }

 private:
  [[nodiscard]] std::int32_t last() const {
    return static_cast<std::int32_t>(problem_.symbols.size()) - 1;
  }

  void put(Token symbol, Role role, std::int32_t source = -1) {
    problem_.symbols.push_back(symbol);
    problem_.roles.push_back(role);
    problem_.sources.push_back(source);
  }

  Problem problem_;
  std::vector<Token> values_;
  std::vector<std::int32_t> stated_;
};

void give_line(Writer& writer, const Line& line) {
  for (const Token symbol :
       {name_of(line.x), line.adds ? plus : minus, name_of(line.y), arrow, name_of(line.z)}) {
    writer.give(symbol);
  }
}

std::vector<Line> draw_program(Draw& draw, const std::vector<Token>& names, std::size_t lines) {
  std::vector<Line> program;
  for (std::size_t i = 0; i < lines; ++i) {
    const auto any = [&] { return names[draw.below(names.size())]; };
    const Token x = any(), y = any(), z = any();
    program.push_back({.x = x, .y = y, .z = z, .adds = draw.below(2) == 0});
  }
  return program;
}

/// What a program is given: its variables, those it uses, and those asked for at the end.
struct Names {
  std::vector<Token> all, hot, asked;
};

void give_program(Writer& writer, Draw& draw, const Names& names, const std::vector<Line>& program,
                  Token first, std::size_t rounds) {
  for (const Token variable : names.all) writer.write(variable, draw.digit(), Role::given);
  writer.give(bar);
  for (std::size_t i = 0; i < program.size(); ++i) {
    writer.give(first + static_cast<Token>(i));
    give_line(writer, program[i]);
  }
  writer.give(first_round + static_cast<Token>(rounds));
  for (const Token variable : names.asked) {
    writer.give(ask);
    writer.give(name_of(variable));
  }
  writer.give(bar);
  writer.end_prompt();
}

Problem run_program(Draw& draw, const Names& names, const ProblemSize& size) {
  Writer writer;
  const std::vector<Line> program = draw_program(draw, names.hot, size.lines);
  const std::size_t labels_left = static_cast<std::size_t>(labels) - size.lines + 1;
  const Token first = first_label + static_cast<Token>(draw.below(labels_left));
  give_program(writer, draw, names, program, first, size.steps);
  for (std::size_t left = size.steps; left-- > 0;) {
    for (std::size_t i = 0; i < program.size(); ++i) {
      writer.expect(first + static_cast<Token>(i));
      writer.execute(program[i]);
    }
    writer.expect(first_round + static_cast<Token>(left));
  }
  writer.begin_answers();
  for (const Token variable : names.asked) writer.answer(variable);
  writer.expect(end_text);
  return writer.take();
}

Problem loop(Draw& draw, const ProblemSize& size) {
  const std::vector<Token> names = draw.sample(size.variables, variables);
  return run_program(draw, {names, names, {names[draw.below(names.size())]}}, size);
}

Problem once(Draw& draw, const ProblemSize& size) {
  const std::vector<Token> names = draw.sample(size.variables, variables);
  const auto half = names.begin() + static_cast<std::ptrdiff_t>((names.size() + 1) / 2);
  const std::vector<Token> hot(names.begin(), half), cold(half, names.end());
  std::vector<Token> shown = names;
  for (std::size_t i = shown.size(); i-- > 1;) std::swap(shown[i], shown[draw.below(i + 1)]);
  return run_program(draw, {shown, hot, cold}, size);
}

/// A stream's prompt: what it begins with, and variables with their first values.
std::vector<Token> give_stream(Writer& writer, Draw& draw, Token first, std::size_t count) {
  writer.give(first);
  const std::vector<Token> names = draw.sample(count, variables);
  for (const Token variable : names) writer.write(variable, draw.digit(), Role::given);
  writer.end_prompt();
  return names;
}

Problem recall_stream(Draw& draw, const ProblemSize& size) {
  Writer writer;
  const std::vector<Token> names = give_stream(writer, draw, stream, size.variables);
  for (std::size_t i = 0; i < size.steps; ++i) {
    if (draw.below(2) == 0) {
      const Token variable = names[draw.popular(names.size())];
      writer.write(variable, draw.digit(), Role::given);
    } else {
      const Token variable = names[draw.below(names.size())];
      writer.give(name_of(variable));
      writer.look_up(variable);
    }
  }
  return writer.take();
}

Problem interleaved(Draw& draw, const ProblemSize& size) {
  Writer writer;
  const std::vector<Token> names = give_stream(writer, draw, due, size.variables);
  for (std::size_t i = 0; i < size.steps; ++i) {
    const auto any = [&] { return names[draw.popular(names.size())]; };
    const Token x = any(), y = any(), z = any();
    const Line line{.x = x, .y = y, .z = z, .adds = draw.below(2) == 0};
    writer.give(due);
    give_line(writer, line);
    writer.give(bar);
    writer.execute(line);
  }
  return writer.take();
}

/// Labelled records of the same few variables and values: most entries look like another record's.
/// Each entry ends with its label again, "L07 f=2 L07": a model that must restate it carries it at
/// the value, where a lookup needs it; without, none of those tried here learned the task.
struct Records {
  std::vector<Token> labels, names;

  void write(Writer& writer, Draw& draw, std::size_t record, Token variable) const {
    const Token label = first_label + labels[record];
    writer.give(label);
    writer.write(variable, static_cast<Token>(draw.below(4)), Role::given, record);
    writer.expect(label);
  }

  void read(Writer& writer, std::size_t record, Token variable) const {
    const Token label = first_label + labels[record];
    writer.give(ask);
    writer.give(name_of(variable));
    writer.give(label);
    writer.look_up(variable, record);
    writer.expect(label);
  }
};

Problem lookalike(Draw& draw, const ProblemSize& size) {
  const std::size_t count = size.variables;
  Writer writer(count);
  const Records records{
      draw.sample(count, static_cast<std::size_t>(labels)),
      draw.sample(std::min(size.lines, static_cast<std::size_t>(variables)), variables)};
  writer.give(bar);
  for (std::size_t record = 0; record < count; ++record) {
    for (const Token variable : records.names) records.write(writer, draw, record, variable);
  }
  writer.end_prompt();
  for (std::size_t i = 0; i < size.steps; ++i) {
    const std::size_t popular = draw.popular(count), any = draw.below(count);
    const Token variable = records.names[draw.below(records.names.size())];
    if (draw.below(2) == 0) {
      records.write(writer, draw, popular, variable);
    } else {
      records.read(writer, any, variable);
    }
  }
  return writer.take();
}

void push(Writer& writer, Token digit, std::size_t depth) {
  const Token place = static_cast<Token>(depth);
  writer.give(first_digit + digit);
  writer.give(bar);
  writer.expect(name_of(place));
  writer.write(place, digit, Role::structure);
}

/// depth: what is left.
void operate(Writer& writer, bool adds, std::size_t depth) {
  const Token top = static_cast<Token>(depth), below = top - 1;
  writer.give(adds ? plus : minus);
  writer.give(bar);
  writer.execute({.x = below, .y = top, .z = below, .adds = adds});
}

/// ": 7 | b b=7" pushes a digit, ": + | a a=2 2 + b b=7 7 > 9 a a=9" operates on the two on top.
/// Variables are the stack's places, a at the bottom; the depth is that of the last place written.
Problem stack_machine(Draw& draw, const ProblemSize& size) {
  Writer writer;
  writer.give(arrow);
  std::size_t depth = 2 + draw.below(size.variables - 1);
  for (std::size_t place = 0; place < depth; ++place) {
    writer.write(static_cast<Token>(place), draw.digit(), Role::given);
  }
  writer.end_prompt();
  for (std::size_t i = 0; i < size.steps; ++i) {
    const bool pushes = depth < 2 || (depth < size.variables && draw.below(2) == 0);
    writer.give(due);
    if (pushes) {
      push(writer, draw.digit(), depth++);
    } else {
      operate(writer, draw.below(2) == 0, --depth);
    }
  }
  return writer.take();
}

void check(std::size_t value, std::size_t least, std::size_t most, const char* what) {
  if (value >= least && value <= most) return;
  throw std::invalid_argument(std::string(what) + " " + std::to_string(value) + ": choose " +
                              std::to_string(least) + " to " + std::to_string(most));
}

}  // namespace

std::string_view name(Task task) {
  switch (task) {
    case Task::loop:
      return "loop";
    case Task::once:
      return "once";
    case Task::recall:
      return "recall";
    case Task::interleaved:
      return "interleaved";
    case Task::lookalike:
      return "lookalike";
    case Task::stack:
      return "stack";
    case Task::facts:
      return "facts";
    case Task::repeated:
      return "repeated";
    case Task::fewshot:
      return "fewshot";
  }
  return "unknown";
}

std::optional<Task> find_task(std::string_view wanted) {
  for (const Task task : tasks) {
    if (name(task) == wanted) return task;
  }
  for (const Task task : context_tasks) {
    if (name(task) == wanted) return task;
  }
  return std::nullopt;
}

Problem make_problem(Task task, const ProblemSize& size, std::uint64_t seed) {
  const bool is_program = task == Task::loop || task == Task::once;
  check(size.variables, 2, static_cast<std::size_t>(variables), "variables");
  check(size.lines, 1, 16, "lines");
  check(size.steps, 1, is_program ? static_cast<std::size_t>(most_rounds) : 100000, "steps");
  // 5 keeps the problems that results were published for.
  Draw draw(seed * 5 + static_cast<std::uint64_t>(task));
  switch (task) {
    case Task::loop:
      return loop(draw, size);
    case Task::once:
      return once(draw, size);
    case Task::recall:
      return recall_stream(draw, size);
    case Task::interleaved:
      return interleaved(draw, size);
    case Task::lookalike:
      return lookalike(draw, size);
    case Task::stack:
      return stack_machine(draw, size);
    default:
      throw std::invalid_argument("a context is no problem of symbols");
  }
}

}  // namespace accuracy
