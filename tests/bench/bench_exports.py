"""Every CNN of keras.applications, an LSTM and a GRU, to TFLite int8 and to ONNX with Q/DQ: does each say what it was made of says?

Run: make bench-exports ARGS="--only MobileNetV2,gru"

The networks begin with random weights, so that nothing is fetched, and learn the digits for some epochs, so that their answers
mean something. Calibrated on training digits, compared on test digits: `float` is the share that the float network has right,
`int8` that of the TFLite file, `agree` how often both say the same, `onnx` how often the ONNX file says what the TFLite
file says, `dB` signal to error of the int8 file's answers. Networks that are known not to hold stand in APART with the reason, those
that nobody has run in UNTRIED, which only --only runs. A network that has fewer than LEARNT right holds nothing. Every network's
figures are kept in --work, and a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.bench_applications import application_names, open_application
from bench.bench_compress import load_digits
from numpy.typing import NDArray

from compress.export.onnx_qdq import export_qdq
from compress.export.parity import compare_scored
from compress.export.qdq_lint import lint_qdq
from compress.measure.scored_classes import ScoredClasses
from compress.networks.signature import input_names
from compress.quantize.check import decibels, not_done
from compress.quantize.graph import TFLiteGraph
from compress.quantize.observe import Observer
from compress.quantize.post_training import quantize_network
from compress.quantize.settings import PostTraining
from compress.quiet import start_tensorflow
from edgeai.console import print_json, print_note, print_table, progress_bar
from edgeai.engines.onnx import open_session
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

Floats = NDArray[np.float32]
TRAINED, CALIBRATION, TESTED = 1000, 64, 200
EPOCHS = 5
SEQUENCES = ("lstm", "gru", "bidirectional")
# by the beginning of the name: those that need longer until they know the digits
SLOW = {"EfficientNetB": 12, **dict.fromkeys(SEQUENCES, 20)}
LEARNT = 0.5  # of the test digits right: a network that always says the same agrees with itself too
BATCH = 32
SETTLED = 256  # pictures that batch norms see at the end
# those whose files are known to part from what they were made of, and why
APART = {
    "EfficientNetB2": "0.975 and 0.965 of 200 digits: so little trained, a few pictures take activations far out of range",
    "EfficientNetB3": "as B2: int8 agrees 0.990 with float, but ONNX 0.970 with int8",
}
# those that were never run to the end on a machine of two cores and 24 GB, and why: nothing is known of them
UNTRIED = {
    "ConvNeXtLarge": "196 M parameters: TensorFlow's converter holds 40 times a network's bytes, of 88 M 17 GB",
    "ConvNeXtXLarge": "348 M parameters, as ConvNeXtLarge",
    "EfficientNetV2L": "118 M parameters, as ConvNeXtLarge: 54 M took 19 GB",
    "EfficientNetB6": "trains for an hour on two cores until it knows the digits",
    "EfficientNetB7": "trains for an hour on two cores until it knows the digits",
    "NASNetLarge": "trains for an hour on two cores until it knows the digits",
}


def digits(split: str, count: int) -> tuple[Floats, NDArray[np.int64]]:
    """Some pictures (count, 8, 8) of 0 to 1, and their labels."""
    images, labels, splits = load_digits()
    picks = np.random.default_rng(0).permutation(splits[split])[:count]
    return (images[picks] / 16).astype(np.float32), labels[picks]


def as_inputs(images: Floats, network: Any) -> Floats:
    """Digits as a network takes them: enlarged to colour pictures of 0 to 255, or their rows as eight steps."""
    shape = network.inputs[0].shape[1:]
    if len(shape) == 2:
        return images
    import tensorflow as tf

    large = tf.image.resize(images[..., None] * 255, shape[:2], "bilinear").numpy()
    return np.repeat(large, 3, axis=-1)


def sequence_network(kind: str) -> Any:
    """Two recurrent layers over the rows of a digit."""
    import keras

    layers = keras.layers
    x = given = keras.Input((8, 8), name="rows")
    made = {"lstm": layers.LSTM, "gru": layers.GRU, "bidirectional": layers.GRU}[kind]
    first = made(48, return_sequences=True)
    x = layers.Bidirectional(first)(x) if kind == "bidirectional" else first(x)
    return keras.Model(given, layers.Dense(10, name="predictions")(made(48)(x)), name=kind)


def epochs_of(name: str) -> int:
    return next((epochs for slow, epochs in SLOW.items() if name.startswith(slow)), EPOCHS)


def train(network: Any, inputs: Floats, labels: NDArray[np.int64], epochs: int) -> None:
    """Teach a network the digits, in place, without dropout; batch norms take the statistics of `inputs` at the end, for few
    steps move them little.
    """
    import keras

    layers = list(network._flatten_layers(include_self=False))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # whole branches of EfficientNets go: in so few steps they learn nothing else
    steps = epochs * -(-len(inputs) // BATCH)
    # deep networks without norms learn nothing at a rate that suits the others
    rate = keras.optimizers.schedules.CosineDecay(1e-3 if norms or network.name in SEQUENCES else 1e-4, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss)
    network.fit(inputs, labels, batch_size=BATCH, epochs=epochs, verbose=0)
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        network(inputs[:SETTLED], training=True)


def said_by_tflite(content: bytes, inputs: Floats) -> Floats:
    observer, output = Observer(content), TFLiteGraph(content).outputs[0]

    def said(one: Floats) -> Floats:
        observer.run(one)
        return observer.value(output).reshape(-1)

    return np.stack([said(one[None]) for one in inputs])


def said_by_onnx(content: bytes, inputs: Floats) -> Floats:
    import onnxruntime

    session = open_session(onnxruntime, content)
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: one[None]})[0].reshape(-1) for one in inputs])


def measure(name: str) -> dict[str, Any]:
    """One network's figures. What is refused has "refused" in the place of them."""
    import keras

    began = time.perf_counter()
    keras.utils.set_random_seed(1)
    network = sequence_network(name) if name in SEQUENCES else open_application(name)
    images, labels = digits("train", TRAINED)
    inputs = as_inputs(images, network)
    train(network, inputs, labels, epochs_of(name))
    images, right = digits("test", TESTED)
    tested = as_inputs(images, network)
    truth = np.asarray(network.predict(tested, verbose=0)).reshape(TESTED, -1)
    row: dict[str, Any] = {
        "network": name,
        "parameters": network.count_params(),
        "float": float(np.mean(truth.argmax(1) == right)),
    }
    given = [{input_names(network)[0]: one[None]} for one in inputs[:CALIBRATION]]
    try:
        content, _ = quantize_network(network, PostTraining(rule="percentile"), given)
        if left := not_done(content, "int8"):
            return row | {
                "refused": f"{len(left)} layers stay {left[0].found}: {left[0].name} ({left[0].kind})"
            }
        exported = export_qdq(content)
        faults = lint_qdq(exported)
    except EdgeError as error:
        return row | {"refused": str(error)}
    del network
    integer, onnx = said_by_tflite(content, tested), said_by_onnx(exported, tested)
    spread = truth - truth.mean(0)
    told = scored(integer, right)
    exact, parity = compare_scored(scored(truth, right), told), compare_scored(told, scored(onnx, right))
    return row | {
        "int8": float(np.mean(integer.argmax(1) == right)),
        "agree": float(np.mean(integer.argmax(1) == truth.argmax(1))),
        "db": decibels(float(np.sum(spread**2)), float(np.sum((integer - truth) ** 2))),
        "onnx": parity.value,
        "holds": row["float"] >= LEARNT and exact.holds and parity.holds,
        "faults": [str(fault) for fault in faults],
        "bytes": [len(content), len(exported)],
        "seconds": round(time.perf_counter() - began, 1),
    }


def scored(scores: Floats, right: NDArray[np.int64]) -> ScoredClasses:
    names = tuple(str(number) for number in range(len(right)))
    labels = tuple(str(digit) for digit in range(10))
    return ScoredClasses(labels, names, names, scores.astype(np.float64), right)


def measured(name: str, work: Path) -> dict[str, Any]:
    """measure(), from --work where it is there. What goes wrong is told in "failed"."""
    file = work / f"{name}.json"
    if file.is_file():
        return dict(json.loads(file.read_text()))
    import keras

    try:
        row = measure(name)
    except (EdgeError, ValueError) as error:
        return {"network": name, "failed": " ".join(str(error).split())[:300]}
    finally:
        keras.backend.clear_session()
        gc.collect()
    write_whole(file, json.dumps(row).encode())
    return row


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    if "int8" not in row:
        return (row["network"], *["-"] * 8)
    sizes = (f"{size / 1e6:.1f}" for size in row["bytes"])
    shares = (f"{row[key]:.3f}" for key in ("float", "int8", "agree", "onnx"))
    millions = f"{row['parameters'] / 1e6:.1f}"
    return (row["network"], millions, *shares, f"{row['db']:.0f}", *sizes)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 where a network fails, is refused, or a file does not say what it was made of says; but for those in APART."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="names, separated by commas; all without it")
    parser.add_argument("--work", type=Path, default=Path("out/bench_exports"))
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args(argv)
    start_tensorflow()
    names = [*SEQUENCES, *application_names()]
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    wanted = only or [name for name in names if name not in UNTRIED]
    if strangers := [name for name in only if name not in names]:
        print_note(f"no such network: {', '.join(strangers)}; there are {', '.join(names)}")
        return 2
    args.work.mkdir(parents=True, exist_ok=True)
    rows = []
    with progress_bar("exports", len(wanted)) as advance:
        for name in wanted:
            rows.append(measured(name, args.work))
            advance(1, name)
    held = sum(bool(row.get("holds")) and not row["faults"] for row in rows)
    if args.json:
        print_json(report(rows))
    else:
        headings = ("network", "M", "float", "int8", "agree", "onnx", "dB", "MB", "onnx MB")
        print_table(headings, [cells(row) for row in rows])
        for row in rows:
            for why in ("failed", "refused", "faults"):
                if row.get(why):
                    print(f"{row['network']}: {why}: {row[why]}")
        print(f"{held} of {len(rows)} say what they were made of says, in both files")
    return 0 if all(as_expected(row) for row in rows) else 1


def as_expected(row: dict[str, Any]) -> bool:
    """Whether it holds, or is known not to."""
    return row["network"] in APART or (bool(row.get("holds")) and not row["faults"])


def report(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """DESIGN.md, "Machine-readable figures"."""
    import keras
    import onnxruntime
    import tensorflow as tf

    results = [
        {
            "name": f"{row['network']}/{key}",
            "unit": "dB" if key == "db" else "1",
            "value": row[key],
            "n": TESTED,
        }
        for row in rows
        if "int8" in row
        for key in ("float", "int8", "agree", "onnx", "db")
    ]
    held = sum(bool(row.get("holds")) for row in rows) / max(len(rows), 1)
    results.append({"name": "held", "unit": "1", "value": held, "n": len(rows)})
    versions = {module.__name__: module.__version__ for module in (keras, tf, np, onnxruntime)}
    return {
        "bench": "exports",
        "device": {"machine": platform.machine(), "cpus": os.cpu_count()},
        "versions": versions,
        "results": results,
        "refused": {row["network"]: row["refused"] for row in rows if "refused" in row},
        "failed": {row["network"]: row["failed"] for row in rows if "failed" in row},
    }


if __name__ == "__main__":
    sys.exit(main())
