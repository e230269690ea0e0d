#include "options.hpp"

#include <CLI/CLI.hpp>

#include "model_source.hpp"
#include "row_kernels.cuh"

namespace cuda_decode {
namespace {

void add_model(CLI::App& app, std::string& model) {
  app.add_option("-m,--model", model,
                 "GGUF file (llama, qwen2 or qwen3); without, a small reasoner in the program");
}

void add_numbers(CLI::App& app, std::string& numbers) {
  app.add_option("--numbers", numbers,
                 "Weights and activations; the cache is fp16 with fp32, else bf16 too")
      ->capture_default_str()
      ->check(CLI::IsMember({"fp32", "bf16"}));
}

void add_json(CLI::App& app, std::string& file) {
  app.add_option("--json", file, "Write the same figures to this file as JSON");
}

template <class Number>
CLI::Option* add_number(CLI::App& app, const char* name, Number& number, const char* what,
                        Number most) {
  return app.add_option(name, number, what)
      ->capture_default_str()
      ->check(CLI::Range(Number{1}, most));
}

}  // namespace

void add_options(CLI::App& app, TimeOptions& options) {
  app.add_option("--model", options.model, "Shape: " + shape_list() + "; the weights are random")
      ->capture_default_str();
  app.add_option("--batch", options.batches, "Sequences decoded in lockstep, several by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1U, most_rows));
  app.add_option("-c,--context", options.contexts, "Tokens read before, several by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(16U, 1U << 22));
  app.add_option("--bound", options.bound, "Most tokens that a layer holds under Lethe")
      ->capture_default_str()
      ->check(CLI::Range(64U, 1U << 22));
  add_number(app, "--room", options.room,
             "Steps that a round makes room for: it is launched once in so many", 1U << 16);
  add_number(app, "--steps", options.steps,
             "Steps timed with the whole cache; under Lethe as many as lie between two rounds",
             1U << 16);
  add_json(app, options.json);
}

void add_options(CLI::App& app, GenerateOptions& options) {
  add_model(app, options.model);
  app.add_option("-p,--prompt", options.prompt,
                 "Text to continue or to answer; the reasoner has one of its own");
  app.add_option("--policy", options.policy, "What prunes the cache")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "lethe"}));
  app.add_option("-b,--budget", options.budget,
                 "Most tokens a layer holds: a number, or a percentage of all tokens of the run")
      ->capture_default_str();
  add_number(app, "-n,--tokens", options.tokens, "Most tokens to generate", std::size_t{1} << 24);
  add_numbers(app, options.numbers);
  app.add_flag("--raw", options.is_raw, "Take the prompt as it is");
}

void add_options(CLI::App& app, CheckOptions& options) {
  add_model(app, options.model);
  app.add_option("-b,--budget", options.budget, "Most tokens a layer holds under Lethe")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{16}, std::size_t{1} << 24));
  add_number(app, "-n,--tokens", options.tokens, "Tokens that each sequence writes, at most",
             std::size_t{1} << 24);
  add_number(app, "--batch", options.batch, "Sequences at a time", most_rows - 1);
  add_numbers(app, options.numbers);
  add_json(app, options.json);
}

}  // namespace cuda_decode
