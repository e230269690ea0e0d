#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <lethe/version.hpp>
#include <new>
#include <string>

#include "commands.hpp"
#include "interrupt.hpp"
#include "one_line.hpp"

namespace {

constexpr int bad_usage = 2;

std::string version() {
  return "decoder " + std::to_string(LETHE_VERSION_MAJOR) + "." +
         std::to_string(LETHE_VERSION_MINOR) + "." + std::to_string(LETHE_VERSION_PATCH);
}

int fail(const std::string& what) {
  std::fprintf(stderr, "decoder: %s\n", what.c_str());
  return bad_usage;
}

/// Adds a command: its options, and what it does once they are read.
template <class Options>
void add_command(CLI::App& app, const char* name, const char* what, Options& options,
                 int (*command)(const Options&), int& status) {
  CLI::App* added = app.add_subcommand(name, what);
  decoder::add_options(*added, options);
  added->callback([&options, &status, command] { status = command(options); });
}

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

int run(int argc, char** argv) {
  CLI::App app(
      "Decodes text with a language model whose KV cache lethe prunes.\n"
      "`decoder COMMAND --help` explains a command.");
  app.name("decoder");
  app.require_subcommand(1);
  app.set_version_flag("--version", version());
  int status = 0;
  Settings settings;
  add_commands(app, settings, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
      return fail("there is no command " + decoder::one_line(argv[1]) +
                  " (decoder --help lists them)");
    return fail(decoder::one_line(error.what()) + " (decoder --help explains the options)");
  }
  return status;
}

/// The status of a program that has ended so, once its output has been written.
int finish(int status) {
  std::cout.flush();
  const bool is_written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  return is_written ? status : fail("the output could not be written: is the disk full?");
}

}  // namespace

int main(int argc, char** argv) {
  decoder::watch_for_interrupt();
  try {
    return finish(run(argc, argv));
  } catch (const std::bad_alloc&) {
    return fail("out of memory: take a smaller context, batch or model, or --cache-type q8_0");
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
