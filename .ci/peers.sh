#!/usr/bin/env bash
# Makes .venv-peers with the tools that we are compared to: `peers.sh` those of bench-peers, `peers.sh cameras` those of
# bench-cameras. Safe to run again; does nothing when all is in place. Apart from .venv, for they need another Keras, another
# OpenCV, and bring torch. EDGEAI_PYTHON=/path/to/python picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GROUP=${1:-compress}
case $GROUP in
  compress)
    # tf_keras and TensorFlow go by pairs. A CPU-only wheel of torch, where pip finds one, is this version too and the newer of the two.
    readonly PEERS=(
      'tensorflow==2.21.*' 'tf_keras==2.21.*' 'tensorflow-model-optimization==0.8.1'
      'torch==2.13.0' 'torch-pruning==1.6.1' 'onnx>=1.17' 'onnxscript>=0.5' 'onnxruntime>=1.20'
      'litert-quantizer==0.11.0'
    )
    readonly SIZE='some minutes, 4 GB (more where torch brings its CUDA)' STAMP=.venv-peers/.edgeai-peers ;;
  cameras)
    # the last supervision with a ByteTrack of its own; the runtimes are ours, so that what is compared is what is around them
    mapfile -t same < <(grep -E '^(onnxruntime|ai-edge-litert|numpy)==' .ci/constraints.txt)
    readonly PEERS=('supervision==0.30.9' 'trackers==2.1.0' 'norfair==2.1.1' 'mediapipe==1.2.3' "${same[@]}")
    readonly SIZE='a minute, 1 GB' STAMP=.venv-peers/.edgeai-peers-cameras ;;
  *) echo "peers: there is no group $GROUP: compress, cameras" >&2; exit 2 ;;
esac

exec 9<.
flock 9

[ "$(cat "$STAMP" 2>/dev/null)" = "${PEERS[*]}" ] && exit 0
echo "peers: into .venv-peers: $SIZE" >&2
[ -x .venv-peers/bin/python ] || "${EDGEAI_PYTHON:-.venv/bin/python}" -m venv .venv-peers
# norfair's filterpy comes as source alone
wheels=(--only-binary :all: --no-binary filterpy)
.venv-peers/bin/python -m pip install -q --disable-pip-version-check --no-input "${wheels[@]}" "${PEERS[@]}"
printf '%s' "${PEERS[*]}" >"$STAMP"
echo 'peers: .venv-peers is ready' >&2
