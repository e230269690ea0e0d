#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "catch.hpp"
#include "files.hpp"

namespace serving::test {

/// What the program came to.
struct Outcome {
  int status = -1;
  std::string output;
  std::string errors;
};

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Runs the program in the folder.
inline Outcome run(const Folder& folder, const std::string& arguments) {
  const std::string command = "cd '" + folder.path(".") + "' && '" LETHE_SERVING_FILE "' " +
                              arguments + " >out 2>err </dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(folder.path("out")),
          slurp(folder.path("err"))};
}

/// One line on stderr that begins with the program's name and contains `part`, and status 2.
inline void check_refused(const Outcome& outcome, const std::string& part) {
  INFO("stderr: " << outcome.errors);
  CHECK(outcome.status == 2);
  CHECK(outcome.errors.rfind("serving: ", 0) == 0);
  CHECK(outcome.errors.find('\n') + 1 == outcome.errors.size());
  CHECK(outcome.errors.find(part) != std::string::npos);
}

}  // namespace serving::test
