#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

namespace gpu_bench {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += "\n  " + name;
  return text;
}

bool finds_one(const std::string& filter, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return name.find(filter) != std::string::npos;
  });
}

}  // namespace

Parsed parse(int count, const char* const* arguments, const std::vector<std::string>& names) {
  Options options;
  CLI::App app(
      "Times what lethe does on the CUDA device against floors measured in the same run.\n"
      "Exit status: 0, whether targets are met or missed, and without a device; 1 where a\n"
      "call failed or a result is wrong; 2 where an argument is.",
      "gpu_bench");
  app.add_option("--json", options.json, "also write everything to this file")->type_name("FILE");
  app.add_option("--filter", options.filter, "only rows whose name contains this")
      ->type_name("NAME");
  app.add_flag("--quick", options.quick, "a small case and few turns: whether it works at all");
  try {
    app.parse(count, arguments);
  } catch (const CLI::ParseError& error) {
    const bool help = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
    app.exit(error);
    return {std::nullopt, help ? 0 : 2};
  }
  if (finds_one(options.filter, names)) return {options, 0};
  std::cerr << "gpu_bench: --filter " << options.filter << ": no row is named so; there are"
            << joined(names) << '\n';
  return {std::nullopt, 2};
}

}  // namespace gpu_bench
