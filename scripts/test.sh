#!/usr/bin/env bash
# Installs what is missing, builds everything, runs every test.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/test.sh [PRESET] [CTEST ARGUMENT...]

Installs the packages and the model that are missing, builds the preset (release by default;
debug, asan, tsan and clang are the others) in build/PRESET, and runs all of its tests. What follows
the preset goes to ctest: scripts/test.sh asan -R pruner
TEXT
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

preset=release
if [[ ${1:-} =~ ^[a-z] ]]; then preset=$1; shift; fi
case $preset in
  release | debug | tsan) need_packages_and_model ;;
  asan) need_packages_and_model clang libclang-rt-dev lld ;;
  clang) need_packages_and_model clang libbenchmark-dev ;;
  *) usage >&2; exit 2 ;;
esac
if [ "$preset" = release ]; then find_cuda; fi
if [ "$preset" != debug ]; then options+=(-DLETHE_TEST_BATCH=10); fi
build "$preset"
say "Testing build/$preset"
ctest --preset "$preset" -j "$CMAKE_BUILD_PARALLEL_LEVEL" "$@"
