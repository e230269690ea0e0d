#include "commands.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "cpu_comparison.hpp"
#include "cuda_backend.hpp"
#include "embedded_model.hpp"
#include "error.hpp"
#include "interrupt.hpp"
#include "one_line.hpp"
#include "output.hpp"
#include "progress.hpp"
#include "timing.hpp"
#include "utf8.hpp"
#include "workbench.hpp"

namespace cuda_decode {
namespace {

using nlohmann::json;

bool skips() {
  if (has_device()) return false;
  std::puts("skipped: no CUDA device");
  return true;
}

std::unique_ptr<Backend> backend_for(const std::string& numbers) {
  return numbers == "fp32" ? exact_backend() : fast_backend();
}

std::unique_ptr<LoadedModel> load(Backend& backend, const decoder::Workbench& bench) {
  ModelSource source = source_of(bench.model);
  decoder::Progress progress("Weights", source.matrices());
  source.on_matrix = [&progress] { progress.advance(); };
  return backend.load(source);
}

/// Writes what the sequence of slot 0 goes on with.
class Writer {
 public:
  Writer(const decoder::Workbench& bench, Stepper& stepper) : bench_(bench), stepper_(stepper) {}

  void read(const std::vector<std::int32_t>& prompt) {
    decoder::Progress progress("Reading", prompt.size());
    constexpr std::uint32_t slot = 0;
    stepper_.start({&slot, 1});
    for (const std::int32_t token : prompt) {
      step(token);
      progress.advance();
    }
  }

  void write(std::size_t tokens) {
    decoder::Utf8Stream stream;
    const auto show = [](const std::string& text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    };
    for (std::size_t i = 0; i < tokens && !decoder::is_interrupted(); ++i) {
      const std::int32_t token = stepper_.likeliest()[0];
      if (token < 0)
        throw decoder::Error(
            "the logits are not all numbers; the model file is damaged or unsupported");
      if (bench_.tokenizer.is_end(token)) break;
      show(stream.push(bench_.tokenizer.piece(token)));
      if (i + 1 < tokens) step(token);
    }
    show(stream.flush() + "\n");
  }

 private:
  void step(std::int32_t token) {
    const RowToken row{0, token};
    stepper_.step({&row, 1});
  }

  const decoder::Workbench& bench_;
  Stepper& stepper_;
};

GenerateOptions completed(GenerateOptions options, const decoder::Workbench& bench) {
  if (!options.prompt.empty()) return options;
  if (!bench.is_embedded) throw decoder::Error("the prompt is empty: give some text with -p");
  options.prompt = decoder::embedded_prompt;
  options.tokens = std::max(options.tokens, decoder::embedded_tokens);
  return options;
}

StepperSettings sizes(const GenerateOptions& options, const decoder::Workbench& bench,
                      std::size_t total) {
  StepperSettings sizes{.capacity = static_cast<std::uint32_t>(total),
                        .drawn = static_cast<std::uint32_t>(bench.tokenizer.size())};
  if (options.policy == "none") return sizes;
  const std::size_t budget = std::min(decoder::parse_budget(options.budget, total), total);
  constexpr std::size_t least = 16;
  if (budget < least)
    throw decoder::Error("--budget " + decoder::one_line(options.budget) + " is " +
                         std::to_string(budget) + " tokens: give at least " +
                         std::to_string(least));
  sizes.pruning = lethe_pruning(budget);
  sizes.capacity = static_cast<std::uint32_t>(budget);
  return sizes;
}

void print(const char* what, const Comparison& found) {
  std::printf("%-12s %zu of %zu tokens the same, largest difference of two logits %.2g", what,
              found.same, found.steps, found.difference);
  if (found.same != found.steps) std::printf(", largest margin where not %.2g", found.margin);
  std::printf(
      "\n%-12s layers hold %zu to %zu of up to %zu tokens, %zu of %zu as many as on the "
      "CPU\n",
      "", found.fewest_kept, found.most_kept, found.read, found.same_length, found.layers);
}

}  // namespace

int timing(const TimeOptions& options) {
  const ModelSource source = random_source(named_shape(options.model));
  decoder::check_writable(options.json);
  if (skips()) return 0;
  const std::unique_ptr<Backend> backend = fast_backend();
  const json results = time_steps(*backend, source,
                                  {.batches = options.batches,
                                   .contexts = options.contexts,
                                   .bound = options.bound,
                                   .room = options.room,
                                   .steps = options.steps});
  std::printf(
      "%s with random weights in bf16 on %s, which reads %.2f TB/s; milliseconds a step\n"
      "\n%s",
      options.model.c_str(), backend->description().c_str(),
      results.at("bytes_per_second").get<double>() / 1e12, timing_tables(results).c_str());
  decoder::write_json(options.json, results);
  return decoder::is_interrupted() ? 130 : 0;
}

int generate(const GenerateOptions& given) {
  const std::unique_ptr<Backend> backend = backend_for(given.numbers);
  const decoder::Workbench bench({.file = given.model});
  const GenerateOptions options = completed(given, bench);
  const auto prompt = decoder::encode_prompt(bench, options.prompt, false, options.is_raw);
  decoder::check_context(bench, prompt.size(), options.tokens);
  decoder::tell(decoder::prompt_note(bench, options.prompt, false, options.is_raw));
  const StepperSettings wanted = sizes(options, bench, prompt.size() + options.tokens);
  const std::unique_ptr<LoadedModel> model = load(*backend, bench);
  const std::unique_ptr<Stepper> stepper = model->make(wanted);
  Writer writer(bench, *stepper);
  writer.read(prompt);
  writer.write(options.tokens);
  return decoder::is_interrupted() ? 130 : 0;
}

int check(const CheckOptions& options) {
  decoder::check_writable(options.json);
  decoder::Workbench bench({.file = options.model});
  if (skips()) return 0;
  const std::unique_ptr<Backend> backend = backend_for(options.numbers);
  const std::unique_ptr<LoadedModel> model = load(*backend, bench);
  ComparisonSettings settings{.rows = options.batch, .tokens = options.tokens};
  const auto prompts = comparison_prompts(bench);
  const Comparison whole = compare(bench, *model, prompts, settings);
  settings.budget = options.budget;
  // So that layers look for their breakpoints in texts as short as these.
  settings.lethe.first_threshold = 64;
  const Comparison pruned = compare(bench, *model, prompts, settings);
  print("whole cache", whole);
  print("Lethe", pruned);
  decoder::write_json(options.json, {{"kind", "cuda_decode check"},
                                     {"device", backend->description()},
                                     {"numbers", options.numbers},
                                     {"model", bench.describe()},
                                     {"budget", options.budget},
                                     {"whole", whole.results()},
                                     {"lethe", pruned.results()}});
  if (decoder::is_interrupted()) return 130;
  Tolerance tolerance;
  if (options.numbers != "fp32") tolerance.difference.reset();
  return whole.agrees(tolerance) && pruned.agrees(tolerance) ? 0 : 1;
}

}  // namespace cuda_decode
