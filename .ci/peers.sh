#!/usr/bin/env bash
# Makes .venv-peers with the tools that bench-peers compares us to. Safe to run again; does nothing when all is in place.
# Apart from .venv, for they need another Keras and bring torch. EDGEAI_PYTHON=/path/to/python picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STAMP=.venv-peers/.edgeai-peers
# tf_keras and TensorFlow go by pairs. A CPU-only wheel of torch, where pip finds one, is this version too and the newer of the two.
readonly PEERS=(
  'tensorflow==2.21.*' 'tf_keras==2.21.*' 'tensorflow-model-optimization==0.8.1'
  'torch==2.13.0' 'torch-pruning==1.6.1' 'onnx>=1.17' 'onnxscript>=0.5' 'onnxruntime>=1.20'
  'litert-quantizer==0.11.0'
)

exec 9<.
flock 9

[ "$(cat "$STAMP" 2>/dev/null)" = "${PEERS[*]}" ] && exit 0
echo 'peers: making .venv-peers: some minutes, 4 GB (more where torch brings its CUDA)' >&2
[ -x .venv-peers/bin/python ] || "${EDGEAI_PYTHON:-.venv/bin/python}" -m venv .venv-peers
.venv-peers/bin/python -m pip install -q --disable-pip-version-check --no-input --only-binary :all: "${PEERS[@]}"
printf '%s' "${PEERS[*]}" >"$STAMP"
echo 'peers: .venv-peers is ready' >&2
