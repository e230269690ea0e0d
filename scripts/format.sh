#!/usr/bin/env bash
# Formats every tracked C++ file; with --check, changes nothing and fails when one is not formatted.
# Exits 77 (skipped) where clang-format 14 or a git checkout is missing: other versions format otherwise.
set -euo pipefail
CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.."

mode=(-i)
case "${1:-}" in
  --check) mode=(--dry-run -Werror) ;;
  "") ;;
  *) echo "usage: scripts/format.sh [--check]" >&2; exit 2 ;;
esac

formatter=
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
    formatter=$candidate
    break
  fi
done
if [ -z "$formatter" ] || ! git rev-parse --git-dir >/dev/null 2>&1; then
  echo "skipped: needs clang-format 14 and a git checkout"
  exit 77
fi
git ls-files -z -- '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs -0 -r "$formatter" --style=file "${mode[@]}"
