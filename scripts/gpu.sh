#!/usr/bin/env bash
# Builds what tests and times the CUDA back end, and runs it on the device that is there.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/gpu.sh [--out DIR] [--carry DIR]

Builds gpu_parity, gpu_move_device_test, gpu_round_device_test and gpu_bench (an nvcc is needed), then
runs them on this machine's CUDA device, gpu_parity also under each tool of compute-sanitizer where that
is on PATH. Everything goes to gpu.log in --out (build/gpu), the benchmark's rows to gpu.json beside it.

--carry DIR  builds, copies the programs and this script to DIR, and runs nothing. On the machine with
             the device, which needs a driver and nothing else, DIR/gpu.sh [--out DIR] runs them; their
             results then go to DIR/results.

Exit status: 0 where all passed, and where there is no device; 1 where one failed; 2 where an argument
is wrong or a program is missing.
TEXT
}

programs=(gpu_parity gpu_move_device_test gpu_round_device_test gpu_bench)
fault() { printf 'gpu.sh: %s\n' "$*" >&2; exit 2; }

out=
carry=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --out | --carry)
      [ $# -ge 2 ] && [ -n "$2" ] || { usage >&2; exit 2; }
      if [ "$1" = --out ]; then out=$(realpath -m -- "$2"); else carry=$(realpath -m -- "$2"); fi
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done

# build_programs: puts the programs into build/release/gpu.
build_programs() {
  source "$here/lib.sh"
  need_packages "${build_packages[@]}"
  find_cuda
  [ "${cuda_options[0]}" = -DLETHE_CUDA=ON ] ||
    fault "no nvcc: install the CUDA toolkit, or carry programs that were built elsewhere"
  build release gpu_programs
}

# run NAME COMMAND...: prints what it prints; notes when it fails.
failed=()
run() {
  local name=$1 status=0
  shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$out/.last" || status=$?
  [ $status -eq 0 ] || { printf '%s: exit status %d\n' "$name" "$status"; failed+=("$name"); }
}

# check_memory: the tools that find what results do not show.
check_memory() {
  local tool
  if ! command -v compute-sanitizer >/dev/null; then
    printf '\ncompute-sanitizer is not on PATH: memcheck, racecheck, initcheck and synccheck are left out\n'
    return 0
  fi
  for tool in memcheck racecheck initcheck synccheck; do
    run "$tool" compute-sanitizer --tool "$tool" --error-exitcode 3 "$folder/gpu_parity" --quick
  done
}

run_all() {
  run gpu_parity "$folder/gpu_parity"
  if grep -q '^skipped: no CUDA device' "$out/.last"; then return 0; fi
  run gpu_move_device_test "$folder/gpu_move_device_test"
  run gpu_round_device_test "$folder/gpu_round_device_test"
  check_memory
  run gpu_bench "$folder/gpu_bench" --json "$out/gpu.json"
  printf '\n'
  [ ${#failed[@]} -eq 0 ] && { printf 'all passed\n'; return 0; }
  printf 'failed: %s\n' "${failed[*]}"
  return 1
}

here=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -e "$here/lib.sh" ]; then
  build_programs
  folder=$PWD/build/release/gpu
  out=${out:-$PWD/build/gpu}
else
  [ -z "$carry" ] || fault "--carry: the programs are here already"
  folder=$here
  out=${out:-$here/results}
fi
for program in "${programs[@]}"; do
  [ -x "$folder/$program" ] || fault "$folder/$program is missing; scripts/gpu.sh --carry copies it"
done
if [ -n "$carry" ]; then
  mkdir -p "$carry"
  cp -f "$here/gpu.sh" "${programs[@]/#/$folder/}" "$carry/"
  printf 'carry %s to the machine with the device, and run gpu.sh there\n' "$carry"
  exit 0
fi
mkdir -p "$out" || fault "--out $out: cannot be made"
rm -f "$out/gpu.json"  # of another run, whose log this one replaces
status=0
run_all | tee "$out/gpu.log" || status=$?
rm -f "$out/.last"
printf 'log: %s\n' "$out/gpu.log"
exit $status
