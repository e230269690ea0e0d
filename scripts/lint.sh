#!/usr/bin/env bash
# Checks the format of every source, and runs clang-tidy over the headers of the library.
# usage: scripts/lint.sh [HEADER...]    all of include/lethe without arguments
set -euo pipefail
CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.."

for tool in clang-format clang-tidy; do
  command -v "$tool" >/dev/null || { echo "lint.sh needs $tool: apt-get install $tool" >&2; exit 2; }
done
# 77: without clang-format 14 the format is not checked, the rest is.
scripts/format.sh --check || [ $? -eq 77 ]

if [ $# -gt 0 ]; then headers=("$@"); else mapfile -t headers < <(git ls-files 'include/*.hpp'); fi
printf '%s\n' "${headers[@]}" |
  xargs -P "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" -I{} \
    clang-tidy --quiet --warnings-as-errors='*' {} -- -x c++ -std=c++20 -Iinclude
