// Answers each line "TASK VARIABLES LINES STEPS SEED" with that problem: its symbols, then its
// roles. Training reads from here, so that it practises what the evaluation asks.
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "problems.hpp"

namespace {

accuracy::Task task_of(const std::string& wanted) {
  const auto found = accuracy::find_task(wanted);
  if (!found) throw std::invalid_argument("unknown task " + wanted);
  return *found;
}

void write(const accuracy::Problem& problem) {
  for (const accuracy::Token symbol : problem.symbols) std::cout << symbol << ' ';
  std::cout << '\n';
  for (const accuracy::Role role : problem.roles) std::cout << static_cast<char>(role);
  std::cout << std::endl;
}

void answer() {
  std::string task;
  accuracy::ProblemSize size;
  std::uint64_t seed = 0;
  while (std::cin >> task >> size.variables >> size.lines >> size.steps >> seed) {
    write(make_problem(task_of(task), size, seed));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string(argv[1]) == "--symbols") {
      for (accuracy::Token s = 0; s < accuracy::symbols; ++s)
        std::cout << accuracy::text_of(s) << '\n';
      return 0;
    }
    answer();
  } catch (const std::exception& error) {
    std::cerr << "write_problems: " << error.what() << '\n';
    return 2;
  }
}
