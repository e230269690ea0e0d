#include "commands.hpp"
#include "program.hpp"

namespace {

using decoder::add_command;

/// The settings of all commands; one of them is used.
struct Settings {
  serving::ValidateOptions validate;
  serving::FitOptions fit;
  serving::SimulateOptions simulate;
  serving::CompareOptions compare;
  serving::RunOptions run;
};

void add_commands(CLI::App& app, Settings& settings, int& status) {
  add_command(app, "validate", "Replay a measured run: measured against simulated",
              settings.validate, &serving::validate, status);
  add_command(app, "fit", "A cost model from measured tables: coefficients and their errors",
              settings.fit, &serving::fit, status);
  add_command(app, "simulate", "Serve a trace on a machine: latencies, objectives met, goodput",
              settings.simulate, &serving::simulate, status);
  add_command(app, "compare", "One trace under several policies at several rates; tables, a page",
              settings.compare, &serving::compare, status);
  add_command(app, "run", "Serve real prompts with the CPU decoder: measured against simulated",
              settings.run, &serving::run, status);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  return decoder::run_program(
      argc, argv,
      {.name = "serving",
       .what = "Simulates an engine that serves language-model requests from a paged KV cache.",
       .out_of_memory = "take a shorter trace"},
      [&settings](CLI::App& app, int& status) { add_commands(app, settings, status); });
}
