#!/usr/bin/env bash
# The names and signatures of TensorRT's real bindings, release by release, against the recorded table that our stand-in and its
# tests go by. Fetches 6 MB of wheels from PyPI; needs gcc and binutils. ARGS=--write records anew.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ] || ! command -v gcc >/dev/null || ! command -v readelf >/dev/null; then
  echo 'trt-api: needs an x86-64 machine with gcc and binutils; left out' >&2
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python tests/golden/record_tensorrt_api.py --wheels | while read -r requirement; do
  .venv/bin/python -m pip download --disable-pip-version-check --no-input -q --no-deps --only-binary :all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 -d "$work" "$requirement" >&2
done
.venv/bin/python tests/golden/record_tensorrt_api.py "$work" "$@"
