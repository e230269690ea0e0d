#include "program.hpp"

#include <cstdio>
#include <exception>
#include <iostream>
#include <lethe/version.hpp>
#include <new>
#include <string>

#include "one_line.hpp"

namespace decoder {
namespace {

constexpr int bad_usage = 2;

std::string version_of(const ProgramText& text) {
  return std::string(text.name) + " " + std::to_string(LETHE_VERSION_MAJOR) + "." +
         std::to_string(LETHE_VERSION_MINOR) + "." + std::to_string(LETHE_VERSION_PATCH);
}

int fail(const ProgramText& text, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", text.name, what.c_str());
  return bad_usage;
}

std::string refusal(const ProgramText& text, const CLI::App& app, const CLI::ParseError& error,
                    int argc, char** argv) {
  const std::string name = text.name;
  if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-')
    return "there is no command " + one_line(argv[1]) + " (" + name + " --help lists them)";
  return one_line(error.what()) + " (" + name + " --help explains the options)";
}

int run_command(int argc, char** argv, const ProgramText& text,
                const std::function<void(CLI::App&, int& status)>& add_commands) {
  const std::string name = text.name;
  CLI::App app(std::string(text.what) + "\n`" + name + " COMMAND --help` explains a command.");
  app.name(name);
  app.require_subcommand(1);
  app.set_version_flag("--version", version_of(text));
  int status = 0;
  add_commands(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return fail(text, refusal(text, app, error, argc, argv));
  }
  return status;
}

/// The status of a program that has ended so, once its output has been written.
int finish(const ProgramText& text, int status) {
  std::cout.flush();
  const bool is_written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0 && std::cout.good();
  return is_written ? status : fail(text, "the output could not be written: is the disk full?");
}

}  // namespace

int run_program(int argc, char** argv, const ProgramText& text,
                const std::function<void(CLI::App&, int& status)>& add_commands) {
  try {
    return finish(text, run_command(argc, argv, text, add_commands));
  } catch (const std::bad_alloc&) {
    return fail(text, std::string("out of memory: ") + text.out_of_memory);
  } catch (const std::exception& error) {
    return fail(text, error.what());
  }
}

}  // namespace decoder
