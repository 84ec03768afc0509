"""What trains never loads on a device: every module of edgeai is imported in a fresh process, and sys.modules read."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import edgeai

NEVER = {"tensorflow", "keras", "torch", "scipy", "onnx", "tf2onnx", "compress", "devices"}
# what takes long to import or opens devices: never at start-up, only where it is used
LATE = {"cv2", "onnxruntime", "ai_edge_litert", "tflite_runtime", "sounddevice", "soundfile"}

SCRIPT = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def modules():
    return [
        "edgeai",
        *(m.name for m in pkgutil.walk_packages(edgeai.__path__, "edgeai.", onerror=lambda name: None)),
    ]


def loaded_by(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_no_module_of_the_runtime_loads_what_trains():
    script = SCRIPT.replace(
        "importlib.import_module(sys.argv[1])", "[importlib.import_module(n) for n in sys.argv[1:]]"
    )
    assert NEVER & loaded_by(script, *modules()) == set()


@pytest.mark.parametrize(
    "layer",
    ["edgeai.cli", "edgeai.engines", "edgeai.bundle", "edgeai.sources", "edgeai.stages", "edgeai.sinks"],
)
def test_each_layer_alone_is_light(layer):
    assert (NEVER | LATE) & loaded_by(SCRIPT, layer) == set()


def test_opening_an_engine_loads_no_other():
    script = """
import json, sys
from edgeai.engines import open_model_file
open_model_file(sys.argv[1])
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    from tiny_bundle import MODELS

    loaded = loaded_by(script, str(MODELS / "picture_int8.tflite"))
    assert loaded & (NEVER | {"onnxruntime", "cv2"}) == set()
