#include "contexts.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "draw.hpp"
#include "words.hpp"

namespace accuracy {
namespace {

/// Adds lines while they fit; line(i) makes the i-th, of at most `most` and at least one for each
/// question and example or kind.
template <class Line>
void fill(Context& context, const ProblemSize& size, const Measure& measure, std::size_t most,
          const Line& line) {
  std::size_t tokens = measure(context.heading);
  for (std::size_t i = 0; i < most; ++i) {
    std::string next = line(i);
    tokens += measure(next);
    if (tokens > size.steps) break;
    context.lines.push_back(std::move(next));
  }
  const std::size_t least = size.variables + size.lines;
  if (context.lines.size() < least) {
    throw std::invalid_argument("tokens " + std::to_string(size.steps) + ": too few for " +
                                std::to_string(least) + " lines");
  }
}

/// One line of each of `count` equal stretches of the text.
std::vector<std::size_t> spread(Draw& draw, std::size_t lines, std::size_t count) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = lines * i / count, next = lines * (i + 1) / count;
    chosen.push_back(first + draw.below(next - first));
  }
  return chosen;
}

/// Lines that each begin in a way of their own, and how they go on.
class Statements {
 public:
  std::vector<std::pair<std::string, std::string>> all;
  /// What stands between a line and the next; as many as there are lines, or none.
  std::vector<std::string> between;

  [[nodiscard]] std::string line(std::size_t index) const {
    return all[index].first + all[index].second + ".\n";
  }
  [[nodiscard]] std::string line_and_more(std::size_t index) const {
    return line(index) + (between.empty() ? "" : between[index]);
  }

  [[nodiscard]] Context write(const ProblemSize& size, const Measure& measure, Draw& draw) const {
    Context context{
        .heading = "These are the codes.\n", .lines = {}, .examples = {}, .questions = {}};
    fill(context, size, measure, all.size(), [&](std::size_t i) { return line_and_more(i); });
    const auto asked = spread(draw, context.lines.size(), size.variables);
    for (const std::size_t each : asked) {
      context.questions.push_back(
          {.given = all[each].first, .answer = all[each].second, .line = each});
    }
    add_examples(context, asked, size.lines, draw);
    return context;
  }

 private:
  void add_examples(Context& context, const std::vector<std::size_t>& asked, std::size_t wanted,
                    Draw& draw) const {
    const std::size_t count = context.lines.size();
    for (const Token each : draw.sample(count, count)) {
      const auto index = static_cast<std::size_t>(each);
      if (std::find(asked.begin(), asked.end(), index) != asked.end()) continue;
      if (context.examples.size() < wanted) context.examples.push_back(line(index));
    }
  }
};

/// "Anna Lamp River": no two lines have the same first name.
std::string full_name(Draw& draw, Token first) {
  const auto rest = draw.sample(2, words::surnames.size());
  return std::string(words::names[static_cast<std::size_t>(first)]) + " " +
         std::string(words::surnames[static_cast<std::size_t>(rest[0])]) + " " +
         std::string(words::surnames[static_cast<std::size_t>(rest[1])]);
}

/// Numbers of three digits, all different.
std::vector<std::string> draw_codes(Draw& draw) {
  std::vector<std::string> codes;
  for (const Token each : draw.sample(900, 900)) codes.push_back(std::to_string(100 + each));
  return codes;
}

template <std::size_t count>
std::string any(Draw& draw, const std::array<std::string_view, count>& words) {
  return std::string(words[draw.below(count)]);
}

/// A sentence that states no fact.
std::string draw_sentence(Draw& draw) {
  std::string text = "The " + any(draw, words::qualities);
  text += " " + any(draw, words::people);
  text += " " + any(draw, words::deeds);
  text += " " + any(draw, words::counts);
  text += " " + any(draw, words::things);
  return text + " near the " + any(draw, words::places) + ".\n";
}

Context state_facts(Draw& draw, const ProblemSize& size, const Measure& measure) {
  Statements statements;
  const std::vector<std::string> codes = draw_codes(draw);
  for (const Token name : draw.sample(words::names.size(), words::names.size())) {
    statements.all.emplace_back("The code of " + full_name(draw, name) + " is ",
                                codes[statements.all.size()]);
    statements.between.push_back(draw_sentence(draw));
  }
  return statements.write(size, measure, draw);
}

Context write_lines(Draw& draw, const ProblemSize& size, const Measure& measure) {
  Statements statements;
  const std::vector<std::string> codes = draw_codes(draw);
  for (const Token name : draw.sample(words::names.size(), words::names.size())) {
    const std::size_t at = 2 * statements.all.size();
    statements.all.emplace_back("The codes of " + full_name(draw, name) + " are",
                                " " + codes[at] + " and " + codes[at + 1]);
  }
  return statements.write(size, measure, draw);
}

/// Words of several kinds, those asked for apart from those shown; and the label of each kind.
struct Kinds {
  Kinds(Draw& draw, const ProblemSize& size)
      : chosen(draw.sample(size.lines, words::kinds.size())),
        labels(draw.sample(size.lines, words::colours.size())) {
    for (std::size_t i = 0; i < size.lines; ++i)
      orders.push_back(draw.sample(words::kinds[0].size(), words::kinds[0].size()));
  }

  [[nodiscard]] std::string word(std::size_t kind, std::size_t index) const {
    const auto& all = words::kinds[static_cast<std::size_t>(chosen[kind])];
    return std::string(all[static_cast<std::size_t>(orders[kind][index])]);
  }
  [[nodiscard]] std::string label(std::size_t kind) const {
    return " " + std::string(words::colours[static_cast<std::size_t>(labels[kind])]);
  }

  std::vector<Token> chosen, labels;
  std::vector<std::vector<Token>> orders;
};

Context show_labels(Draw& draw, const ProblemSize& size, const Measure& measure) {
  const Kinds kinds(draw, size);
  const std::size_t asked = (size.variables + size.lines - 1) / size.lines;
  const std::size_t shown = words::kinds[0].size() - asked;
  Context context{
      .heading = "Each word has a colour.\n", .lines = {}, .examples = {}, .questions = {}};
  std::vector<std::size_t> drawn;
  fill(context, size, measure, size.steps, [&](std::size_t) {
    drawn.push_back(draw.below(size.lines));
    const std::string word = kinds.word(drawn.back(), asked + draw.below(shown));
    return word + ":" + kinds.label(drawn.back()) + "\n";
  });
  std::vector<std::size_t> newest(size.lines);
  for (std::size_t i = 0; i < context.lines.size(); ++i) newest[drawn[i]] = i;
  for (std::size_t i = 0; i < size.variables; ++i) {
    const std::size_t kind = i % size.lines;
    context.questions.push_back({.given = kinds.word(kind, i / size.lines) + ":",
                                 .answer = kinds.label(kind),
                                 .line = newest[kind]});
  }
  return context;
}

}  // namespace

Context make_context(Task task, const ProblemSize& size, std::uint64_t seed,
                     const Measure& measure) {
  // 1 less keeps the texts that results were published for.
  Draw draw(seed * context_tasks.size() + static_cast<std::uint64_t>(task) - 1);
  switch (task) {
    case Task::facts:
      return state_facts(draw, size, measure);
    case Task::repeated:
      return write_lines(draw, size, measure);
    case Task::fewshot:
      return show_labels(draw, size, measure);
    default:
      throw std::invalid_argument("a problem of symbols is no context");
  }
}

}  // namespace accuracy
