#include "commands.hpp"
#include "interrupt.hpp"
#include "program.hpp"

namespace {

using decoder::add_command;

/// The settings of all commands; one of them is used.
struct Settings {
  decoder::GenerateOptions generate;
  decoder::CompareOptions compare;
  decoder::BenchOptions bench;
  decoder::PerplexityOptions perplexity;
  decoder::ReplayOptions replay;
};

void add_commands(CLI::App& app, Settings& settings, int& status) {
  add_command(app, "generate", "Continue a text, or answer a prompt", settings.generate,
              &decoder::generate, status);
  add_command(app, "compare",
              "One text with the whole cache and with pruned ones: speed, bytes, fidelity; tables "
              "and an HTML report",
              settings.compare, &decoder::compare, status);
  add_command(app, "bench", "Tokens per second and bytes by context, batch and policy",
              settings.bench, &decoder::bench, status);
  add_command(app, "perplexity", "Score a text file under a policy, beside the whole cache",
              settings.perplexity, &decoder::perplexity, status);
  add_command(app, "replay", "Recorded attention under policies: lost attention, output error",
              settings.replay, &decoder::replay, status);
}

}  // namespace

int main(int argc, char** argv) {
  decoder::watch_for_interrupt();
  Settings settings;
  return decoder::run_program(
      argc, argv,
      {.name = "decoder",
       .what = "Decodes text with a language model whose KV cache lethe prunes.",
       .out_of_memory = "take a smaller context, batch or model, or --cache-type q8_0"},
      [&settings](CLI::App& app, int& status) { add_commands(app, settings, status); });
}
