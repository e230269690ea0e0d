#!/usr/bin/env bash
# Builds the benchmarks and prints their ratios.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/benchmarks.sh [CXX FLAG...]

Installs the packages that are missing, builds the benchmarks (Release, with the flags given, such
as -march=native) in build/benchmarks, runs each five times, and prints one table: the medians of
the floor, of lethe and of their ratio, and the ratio's range. Then it times the compilation of the
headers.
TEXT
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_packages g++ cmake ninja-build python3 libbenchmark-dev
say "Building build/benchmarks"
cmake --preset benchmarks --log-level=WARNING -DLETHE_BUILD_EXAMPLES=OFF -DCMAKE_CXX_FLAGS="$*"
cmake --build --preset benchmarks

say "Running"
results=()
for name in attention deferred planner contiguous newer_keys layerkv_admission \
  layerkv_block_tables layerkv_transfer; do
  results+=("build/benchmarks/$name.json")
  build/benchmarks/benchmarks/bench_$name --benchmark_repetitions=5 --benchmark_out="${results[-1]}" \
    --benchmark_out_format=json >/dev/null 2>&1
done
python3 benchmarks/table.py "${results[@]}"
echo
python3 benchmarks/compile_time.py
