/// What the programs with commands share: options, refusals in one line, exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace decoder {

/// How a program speaks of itself.
struct ProgramText {
  const char* name;
  const char* what;
  const char* out_of_memory;  ///< what to do then
};

/// Adds a command: its options, by the add_options of their type, and what it does once they are
/// read.
template <class Options>
void add_command(CLI::App& app, const char* name, const char* what, Options& options,
                 int (*command)(const Options&), int& status) {
  CLI::App* added = app.add_subcommand(name, what);
  add_options(*added, options);
  added->callback([&options, &status, command] { status = command(options); });
}

/// Runs the command that the arguments name. Returns the program's exit status: the command's, or 2
/// after one line that says what cannot be done.
/// @param add_commands adds all commands, each of which sets the status
int run_program(int argc, char** argv, const ProgramText& text,
                const std::function<void(CLI::App&, int& status)>& add_commands);

}  // namespace decoder
