#!/usr/bin/env bash
# Builds the fuzzers and runs them from seeds that the build writes.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/fuzz.sh [SECONDS] [gguf_fuzz|state_fuzz|both] [FOLDER]

Runs one fuzzer, or both in turn (the default), for so many seconds each (60 by default) under the
address and undefined-behaviour sanitizers. What it learns is kept in build/fuzz/corpus; an input
that breaks something is written to build/fuzz/findings, and the script fails. FOLDER takes the place
of build/fuzz.
TEXT
}

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
seconds=${1:-60}
case "${2:-both}" in
  both) targets=(gguf_fuzz state_fuzz) ;;
  gguf_fuzz | state_fuzz) targets=("$2") ;;
  *) usage >&2; exit 2 ;;
esac
[[ $seconds =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }
folder=${3:+$(realpath -m -- "$3")}

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_packages clang libclang-rt-dev cmake ninja-build libpcre2-dev

folder=${folder:-build/fuzz}
cmake -S fuzz -B "$folder/build" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=None >/dev/null
cmake --build "$folder/build"
"$folder/build/make_seeds" "$folder/seeds"
for target in "${targets[@]}"; do
  mkdir -p "$folder/corpus/$target" "$folder/findings"
  say "Running $target for $seconds s"
  "$folder/build/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$folder/findings/$target-" \
    "$folder/corpus/$target" "$folder/seeds/$target"
done
