# SPDX-License-Identifier: Apache-2.0
# Set-up shared by scripts/test, scripts/demo and .ci/run: installs what is missing on Debian 12 and Ubuntu 24.04 or later.
# shellcheck shell=bash

# What the tests, programs and benchmarks are built with.
KDLIB_PACKAGES=(git cmake ninja-build g++ ccache pkg-config python3 libeigen3-dev libopenblas-dev rapidjson-dev libpcre2-dev libyaml-cpp-dev libboost-dev libcurl4-openssl-dev libhdf5-dev catch2 libbenchmark-dev)

# ccache, where used, recognises the same sources in another folder (a fresh clone builds from the cache).
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

say() { printf '[%s] %s\n' "$(basename "$0")" "$*"; }

package_is_here() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# ensure_packages NAME...: installs those that are missing, with root or sudo; says which and nothing else.
ensure_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "this is not Debian or Ubuntu: make sure that these (or their like) are installed: $*"
    return 0
  fi
  local missing=() name
  for name in "$@"; do package_is_here "$name" || missing+=("$name"); done
  if [ ${#missing[@]} -eq 0 ]; then
    say "nothing to install ($# packages are here)"
    return 0
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { say "needs root or sudo to install: ${missing[*]}"; return 1; }
    as_root=(sudo)
  fi
  say "installs: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/tmp/kdlib_setup.$$ 2>&1 || {
    say "the package lists may be old: apt-get update"
    "${as_root[@]}" apt-get update -q >/dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/tmp/kdlib_setup.$$ 2>&1 || {
      tail -20 /tmp/kdlib_setup.$$
      say "could not install: ${missing[*]}"
      rm -f /tmp/kdlib_setup.$$
      return 1
    }
  }
  rm -f /tmp/kdlib_setup.$$
}

# clang with the runtime libraries of its sanitizers and libFuzzer.
ensure_clang() {
  ensure_packages clang
  local major
  major=$(clang --version | sed -n 's/.*clang version \([0-9]*\).*/\1/p' | head -1)
  ensure_packages "libclang-rt-$major-dev"
}

# Prints the folder of nvcc, or nothing.
find_nvcc() {
  if command -v nvcc >/dev/null; then dirname "$(command -v nvcc)"
  elif [ -x /usr/local/cuda/bin/nvcc ]; then echo /usr/local/cuda/bin
  fi
}

# cuda_wanted: the CUDA sources take ten minutes, so they are compiled where a GPU answers or where they are asked for.
cuda_wanted() {
  [ "${KDLIB_CUDA_SOURCES:-auto}" = on ] && return 0
  [ "${KDLIB_CUDA_SOURCES:-auto}" = auto ] && command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1
}

# configure_release [cmake arguments]: build/release; with kdlib::cuda where nvcc is and cuda_wanted.
configure_release() {
  local cuda=OFF nvcc
  nvcc=$(find_nvcc)
  if [ -z "$nvcc" ]; then
    say "no nvcc here: the CUDA sources are not compiled"
  elif cuda_wanted; then
    cuda=ON
    export PATH="$nvcc:$PATH"
  else
    say "no GPU here: the CUDA sources are not compiled (KDLIB_CUDA_SOURCES=on compiles them)"
  fi
  local log=build/configure.log
  mkdir -p build
  cmake --preset release -DKDLIB_CUDA=$cuda "$@" >"$log" 2>&1 || { cat "$log"; say "cmake failed"; return 1; }
  grep '^-- kdlib:' "$log" || true
}
