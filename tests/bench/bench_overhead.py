"""What our engine call costs over the library's own at 320 x 320 x 3: one convolution, every way a picture is written.

    python tests/bench/bench_overhead.py [--runs 500] [--json]

Ours takes a uint8 picture: it is checked, normalised as the manifest says ((pixel - mean) / std, the tensor's quantisation, its
layout) and written into the tensor; outputs come back as float32 arrays of the caller's own. The bare call, by turns with ours,
is the interpreter's invoke, or the session's run on ready arrays: no picture is written, nothing normalised or copied out
(onnxruntime's run makes its own output arrays).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgeai.bench.conv_model import conv_model
from edgeai.bundle.manifest import ImageInput
from edgeai.cli.figures import Outputs, print_figures
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.metrics import Measurement, summarize

SIDE = 320
_KERNEL, _CHANNELS = 16, 16
_WARM_UP = 20
# what a manifest may say: pixels as they are, 0..1, -1..1, each channel its own
NORMS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "as_is": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "centred": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "channels": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
# the step of an int8 tensor that takes such numbers
_SCALES = {"as_is": 1.0, "unit": 1 / 255, "centred": 1 / 127.5, "channels": 0.0186}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    results: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        for label, path, contract in models(Path(name)):
            results.append(overhead(label, path, contract, runs=args.runs))
    title = f"our call over the library's own, {SIDE} x {SIDE} x 3"
    print_figures("overhead", results, title=title, outputs=Outputs(json=args.json))
    return 0


def models(folder: Path) -> list[tuple[str, Path, ImageInput]]:
    """(label, file, its manifest's input) of every format, layout and norm."""
    made = []
    for norm, (mean, std) in NORMS.items():
        for dtype in ("int8", "float32"):
            path = folder / f"{dtype}_{norm}.tflite"
            content = conv_model(
                SIDE, SIDE, 3, _CHANNELS, kernel=_KERNEL, dtype=dtype, input_scale=_SCALES[norm]
            )
            path.write_bytes(content)
            made.append((f"tflite_{dtype}_nhwc_{norm}", path, _contract("NHWC", mean, std)))
        for layout in ("NHWC", "NCHW"):
            path = folder / f"{layout}_{norm}.onnx"
            path.write_bytes(onnx_model(layout))
            made.append((f"onnx_float32_{layout.lower()}_{norm}", path, _contract(layout, mean, std)))
    return made


def onnx_model(layout: str) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (_CHANNELS, 3, _KERNEL, _KERNEL)).astype(np.float32)
    shape = [1, SIDE, SIDE, 3] if layout == "NHWC" else [1, 3, SIDE, SIDE]
    side = SIDE // _KERNEL
    nodes = []
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]))
    nodes.append(
        helper.make_node(
            "Conv",
            ["planes" if layout == "NHWC" else "image", "weights"],
            ["out"],
            strides=[_KERNEL, _KERNEL],
        )
    )
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, _CHANNELS, side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return content


def overhead(label: str, path: Path, contract: ImageInput, *, runs: int) -> Measurement:
    """`<label>_overhead_us`: the differences of `runs` pairs of calls, each first in every other pair."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with EdgeEngine(open_model_file(path), contract) as engine:
        bare = engine.engine.bare_call()
        given = {engine.inputs[0].name: picture}
        differences = []
        for number in range(_WARM_UP + runs):
            times = {}
            for call in ("ours", "bare") if number % 2 else ("bare", "ours"):
                began = time.perf_counter_ns()
                engine.run(given) if call == "ours" else bare()
                times[call] = time.perf_counter_ns() - began
            if number >= _WARM_UP:
                differences.append((times["ours"] - times["bare"]) / 1e3)
    return summarize(f"{label}_overhead_us", "us", differences)


def _contract(layout: str, mean: tuple[float, ...], std: tuple[float, ...]) -> ImageInput:
    return ImageInput.model_validate(
        {"width": SIDE, "height": SIDE, "layout": layout, "mean": mean, "std": std}
    )


if __name__ == "__main__":
    sys.exit(main())
