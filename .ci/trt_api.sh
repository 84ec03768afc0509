#!/usr/bin/env bash
# The names and signatures of TensorRT's real bindings, release by release, against the recorded table that our stand-in and its
# tests go by; and CUDA's real runtime, by ctypes and through cuda-python. Fetches 30 MB from PyPI into a folder that is
# removed; needs gcc and binutils. ARGS=--write records anew.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ] || ! command -v gcc >/dev/null || ! command -v readelf >/dev/null; then
  echo 'trt-api: needs an x86-64 machine with gcc and binutils; left out' >&2
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { .venv/bin/python -m pip "$@" --disable-pip-version-check --no-input -q >&2; }

tag=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
.venv/bin/python tests/golden/record_tensorrt_api.py --wheels | while read -r requirement; do
  pip download --no-deps --only-binary :all: --python-version "$tag" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 -d "$work/wheels" "$requirement"
done
.venv/bin/python tests/golden/record_tensorrt_api.py "$work/wheels" "$@"
pip install --target "$work/cuda" nvidia-cuda-runtime-cu12 cuda-bindings==12.9.*
EDGEAI_REQUIRE_CUDART=1 PYTHONPATH="$work/cuda" .venv/bin/python -m pytest tests/unit/test_cudart.py
