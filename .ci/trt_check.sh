#!/usr/bin/env bash
# The extra trt-check into .venv, the tests that need it, and every ONNX file of the zoo through NVIDIA's own parser and
# builder. x86-64 only: NVIDIA has no such wheels for other machines.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ]; then
  echo "trt-check: NVIDIA's wheels are for x86-64, this is $(uname -m); left out" >&2
  exit 0
fi
if ! .venv/bin/python -c 'import tensorrt_rtx_bindings' 2>/dev/null; then
  fetch() {
    .venv/bin/python -m pip install --disable-pip-version-check --no-input -q -c .ci/constraints.txt -e '.[trt-check]' >&2
  }
  fetch || { echo 'trt-check: pip failed; trying once more' >&2; fetch; }
fi
EDGEAI_REQUIRE_TRT=1 .venv/bin/python -m pytest tests/unit/test_onnx_qdq.py tests/unit/test_onnx_dense.py tests/unit/test_quantize_norms.py \
  tests/unit/test_quantize_spread.py tests/unit/test_plan_build.py
for manifest in models/*/manifest.json; do
  models+=("$(dirname "$manifest")")
done
.venv/bin/edgeai-compress trt-check "${models[@]}"
