#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <lethe/version.hpp>
#include <new>
#include <string>

#include "commands.hpp"
#include "one_line.hpp"

namespace {

constexpr int bad_usage = 2;

std::string version() {
  return "serving " + std::to_string(LETHE_VERSION_MAJOR) + "." +
         std::to_string(LETHE_VERSION_MINOR) + "." + std::to_string(LETHE_VERSION_PATCH);
}

int fail(const std::string& what) {
  std::fprintf(stderr, "serving: %s\n", what.c_str());
  return bad_usage;
}

/// Adds a command: its options, and what it does once they are read.
template <class Options>
void add_command(CLI::App& app, const char* name, const char* what, Options& options,
                 int (*command)(const Options&), int& status) {
  CLI::App* added = app.add_subcommand(name, what);
  serving::add_options(*added, options);
  added->callback([&options, &status, command] { status = command(options); });
}

std::string refusal(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
    return "there is no command " + decoder::one_line(argv[1]) + " (serving --help lists them)";
  return decoder::one_line(error.what()) + " (serving --help explains the options)";
}

/// The settings of all commands; one of them is used.
struct Settings {
  serving::ValidateOptions validate;
  serving::SimulateOptions simulate;
  serving::CompareOptions compare;
};

void add_commands(CLI::App& app, Settings& settings, int& status) {
  add_command(app, "validate", "Replay a measured run: measured against simulated",
              settings.validate, &serving::validate, status);
  add_command(app, "simulate", "Serve a trace on a machine: latencies, objectives met, goodput",
              settings.simulate, &serving::simulate, status);
  add_command(app, "compare", "One trace under several policies at several rates; tables, a page",
              settings.compare, &serving::compare, status);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Simulates an engine that serves language-model requests from a paged KV cache.\n"
      "`serving COMMAND --help` explains a command.");
  app.name("serving");
  app.require_subcommand(1);
  app.set_version_flag("--version", version());
  int status = 0;
  Settings settings;
  add_commands(app, settings, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return fail(refusal(app, error, argc, argv));
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int status = run(argc, argv);
    std::cout.flush();
    const bool is_written =
        std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
    if (is_written) return status;
    return fail("the output could not be written: is the disk full?");
  } catch (const std::bad_alloc&) {
    return fail("out of memory: take a shorter trace");
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
