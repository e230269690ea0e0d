#!/usr/bin/env bash
# Installs what is missing, builds the decoder, and compares a whole cache with a pruned one.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/demo.sh [--model FILE.gguf] [--report FILE.html] [ARGUMENT...]

Decodes with a real language model, with its whole KV cache and with pruned ones beside it, reads the
text again to compare every prediction, and says what was kept, what it cost and what it saved. The
model is SmolLM2-135M-Instruct, fetched once (93 MB); --model (or -m) takes any other GGUF file of the
architectures llama, qwen2 or qwen3. The report goes to build/demo.html; --report takes another place.
Other arguments go to `decoder compare`; see `build/release/examples/decoder/decoder compare --help`.
TEXT
}

# absolute PATH: as seen from where the script was called; nothing stays nothing.
absolute() { [ -z "$1" ] || realpath -m -- "$1"; }

model=
unset report
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    -m | --model) [ $# -ge 2 ] || { usage >&2; exit 2; }; model=$(absolute "$2"); shift 2 ;;
    --model=*) model=$(absolute "${1#*=}"); shift ;;
    -m?*) model=$(absolute "${1#-m}"); shift ;;
    --report) [ $# -ge 2 ] || { usage >&2; exit 2; }; report=$(absolute "$2"); shift 2 ;;
    --report=*) report=$(absolute "${1#*=}"); shift ;;
    *) arguments+=("$1"); shift ;;
  esac
done

caller=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -z "$model" ]; then
  need_packages_and_model
  model=$model_file
elif [ -r "$model" ]; then
  need_packages "${build_packages[@]}"
else
  fail "cannot read $model: give --model the path of a GGUF file"
fi
build release decoder

report=${report-$PWD/build/demo.html}
program=$PWD/build/release/examples/decoder/decoder
model=$(realpath "$model")
say "Comparing the whole cache with pruned ones"
cd "$caller"
"$program" compare -m "$model" --report "$report" "${arguments[@]}"
[ -z "$report" ] || say "The report, with pictures: $report"
