#include "prompt_queue.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "embedded_model.hpp"
#include "error.hpp"

namespace serving {
namespace {

using Random = std::mt19937_64;

double draw_share(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

std::size_t draw_between(Random& random, std::size_t least, std::size_t most) {
  return least + random() % (most - least + 1);
}

/// The reasoner's own prompt again and again, with other digits.
std::string programs(Random& random, std::size_t symbols) {
  std::string text;
  while (text.size() < symbols) {
    std::string program(decoder::embedded_prompt);
    for (std::size_t i = 1; i < program.size(); ++i)
      if (program[i - 1] == '=') program[i] = static_cast<char>('0' + random() % 10);
    text += program;
  }
  return text;
}

void add_request(const std::vector<std::int32_t>& tokens, const QueueSettings& settings, double now,
                 Random& random, PromptQueue& queue) {
  const std::size_t input = draw_between(random, settings.shortest_input, settings.longest_input);
  const std::size_t output =
      draw_between(random, settings.shortest_output, settings.longest_output);
  const std::size_t at = draw_between(random, 0, tokens.size() - input);
  const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
  queue.trace.requests.push_back({.arrival = now,
                                  .input = static_cast<std::uint32_t>(input),
                                  .output = static_cast<std::uint32_t>(output)});
  queue.prompts.emplace_back(first, first + static_cast<std::ptrdiff_t>(input));
}

}  // namespace

PromptQueue make_queue(const decoder::Workbench& bench, const std::string& text,
                       const QueueSettings& settings) {
  decoder::check_context(bench, settings.longest_input, settings.longest_output);
  Random random(settings.seed);
  const std::size_t symbols = 64 * settings.longest_input;
  const auto tokens =
      bench.tokenizer.encode(text.empty() ? programs(random, symbols) : text, false);
  if (tokens.size() <= settings.longest_input)
    throw decoder::Error("the text has " + std::to_string(tokens.size()) +
                         " tokens, a prompt up to " + std::to_string(settings.longest_input) +
                         ": give a longer text, or a smaller --input");
  PromptQueue queue;
  double now = 0;
  for (std::size_t i = 0; i < settings.requests; ++i) {
    add_request(tokens, settings, now, random, queue);
    now -= std::log(1 - draw_share(random)) / settings.rate;
  }
  queue.trace.name = "the queue";
  return queue;
}

}  // namespace serving
