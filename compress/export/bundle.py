"""From a candidate to a bundle: engine files, labels, golden input and outputs, and everything a device must know."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate, EngineFile
from compress.measure.kept import measured_fields
from compress.networks.bundle_network import NETWORK_NAME
from compress.networks.half_weights import halve_weights
from compress.passes.bench import Measured
from compress.quantize.tflite import convert_tflite
from compress.recipe import Recipe
from edgeai import __version__
from edgeai.bundle import Bundle, write_bundle
from edgeai.bundle.golden import make_golden, relative_error
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.errors import PassError
from edgeai.hardware import read_hardware

# the most that a format may be off, of a golden output's range: float formats only round, int8 steps add up, and on an
# output that is nearly flat, as a detector's scores are on a picture of little, one place of thousands may be off by more
# than that range (1.05 in an int8 person detector whose root mean square there was 0.18). What lies outside of calibrated
# ranges is cut, by int16x8 too: a drawn scene is no circuit board (0.42, where the held-out boards' AP50 was float's)
LIMITS = {"float32": 0.002, "float16": 0.05, "int16x8": 2.0, "dynamic": 0.5, "int8": 2.0, "int4": 2.0}
MOST_TOLERANCE = 2.0  # that a manifest takes
# what other machines' kernels may add to the error that was measured here
_SLACK = {"float32": 0.001, "float16": 0.01, "int16x8": 0.01, "dynamic": 0.05, "int8": 0.05, "int4": 0.05}


def write_candidate(
    recipe: Recipe,
    candidate: Candidate,
    out: Path,
    *,
    records: list[dict[str, Any]],
    final: Measured,
    date: str,
    control: dict[str, Any] | None = None,
    notes: dict[str, Any] | None = None,
) -> Bundle:
    """Write the bundle in `out`, replacing the one that is there.

    records: the passes as the manifest tells them; control: what the same architecture learnt from nothing. notes:
    what passes want told. final: the figures of what is written. Raises PassError where an engine
    file does not say what the network says, BundleError where the bundle cannot be written; nothing is half-written.
    """
    files: dict[str, Path | bytes] = {file.path.name: file.path for file in candidate.files}
    files["labels.txt"] = ("\n".join(recipe.labels) + "\n").encode()
    golden = _golden(recipe, candidate)
    files["golden.npz"] = golden
    files[NETWORK_NAME] = _network(candidate, half=recipe.network.keep == "float16")
    entries = [
        {
            "path": file.path.name,
            "format": file.format,
            "precision": file.precision,
            "tolerance": _tolerance(recipe, file, golden),
        }
        for file in candidate.files
    ]
    fields = {
        "name": recipe.name,
        "version": recipe.version,
        "task": recipe.task,
        "input": recipe.input.model_dump(mode="json"),
        "decoder": recipe.decoder.model_dump(mode="json"),
        "labels": list(recipe.labels),
        "files": entries,
        "golden": "golden.npz",
        "licence": recipe.licence,
        "attribution": list(recipe.attribution),
        "provenance": {
            "made_by": f"edgeai-compress {__version__}",
            "date": date,
            "passes": records,
            **({"control": control} if control else {}),
            **({"notes": notes} if notes else {}),
        },
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "measured": [
            field.model_dump(mode="json")
            for field in measured_fields(
                # a float32 file that only served to measure the network is in no bundle
                final.file.path.name if final.file in candidate.files else "",
                final.metric,
                final.cost.ms_p50,
                data="held-out part of the training data",
                device=read_hardware(ask_gpu=False).label,
                date=date,
                prefix="validation ",
            )
        ],
    }
    return write_bundle(out, fields, files)


def _golden(recipe: Recipe, candidate: Candidate) -> bytes:
    """The network's outputs on a generated input, in float32: no data set's picture or clip goes into a bundle."""
    path = candidate.files[0].path.with_name("golden-float32.tflite")
    path.write_bytes(convert_tflite(candidate.aware or candidate.network, "float32"))
    engine = EdgeEngine(open_model_file(path, threads=1), recipe.input)
    try:
        return make_golden(engine, generated_input(recipe.input, engine.inputs[0].shape))
    finally:
        engine.close()
        path.unlink()


def _network(candidate: Candidate, *, half: bool) -> Path:
    """The Keras network itself, so that somebody can go on training from the bundle; devices never read it."""
    path = candidate.files[0].path.with_name(NETWORK_NAME)
    candidate.network.save(path)
    if half:
        halve_weights(path)
    return path


def _tolerance(recipe: Recipe, file: EngineFile, golden: bytes) -> float:
    """What the file may be off on any machine: twice what it is off here, and a little for other kernels."""
    known = np.load(io.BytesIO(golden), allow_pickle=False)
    with EdgeEngine(open_model_file(file.path, threads=1), recipe.input) as engine:
        got = engine.run({engine.inputs[0].name: known["input"]})
    outputs = [name for name in known.files if name != "input"]
    if (
        len(got) == len(outputs) == 1
    ):  # converters rename a single output as they like, and check_golden lets them
        got = dict(zip(outputs, got.values(), strict=True))
    if set(got) != set(outputs):
        raise PassError(f"{file.path.name} gives {sorted(got)}, the network {sorted(outputs)}")
    worst = max(relative_error(got[name], known[name]) for name in outputs)
    if not worst <= LIMITS[file.precision]:
        raise PassError(
            f"{file.path.name} is off by {worst:.3f} of its outputs' range, {file.precision} allows "
            f"{LIMITS[file.precision]}",
            next_step="the conversion has changed what the network says: more calibration data, or another precision",
        )
    return round(min(MOST_TOLERANCE, 2 * worst + _SLACK[file.precision]), 4)


def generated_input(spec: ImageInput | LogMelInput, shape: tuple[int, ...]) -> NDArray[Any]:
    """A picture of drawn figures, or the features of something like a word; small when compressed.

    Like what cameras and microphones take up on purpose: on random pixels a network's first layer goes far outside of what
    pictures do to it, and int8 ranges are made for pictures.
    """
    if isinstance(spec, ImageInput):
        return _drawn_figures(spec.width, spec.height)
    # a word in a quiet room: bands of formants that swell and fade, less of them high up, on a low floor
    time, pitch = np.linspace(-2.5, 2.5, spec.frames)[:, None], np.linspace(0, 1, spec.mels)[None]
    bands = (0.5 + 0.5 * np.sin(9 * pitch + time)) * (1 - 0.4 * pitch)
    return (1.7 * np.exp(-(time**2)) * bands - 0.9).reshape(shape).astype(np.float32)


def _drawn_figures(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: three standing figures of different sizes on a smooth ground."""
    import cv2

    rng = np.random.default_rng(7)
    coarse = rng.integers(60, 200, (6, 6, 3)).astype(np.uint8)
    image = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    for left, top, size in ((0.2, 0.3, 0.6), (0.55, 0.45, 0.35), (0.8, 0.6, 0.2)):
        tall, x, y = int(size * height), int(left * width), int(top * height)
        wide = max(4, tall // 4)
        shirt, legs = rng.integers(20, 230, 3).tolist(), rng.integers(20, 120, 3).tolist()
        cv2.ellipse(
            image, (x + wide // 2, y + tall // 12), (tall // 16, tall // 12), 0, 0, 360, (140, 170, 215), -1
        )
        cv2.rectangle(image, (x, y + tall // 6), (x + wide, y + tall // 2), shirt, -1)
        for side in (wide // 8, 5 * wide // 8):
            cv2.rectangle(image, (x + side, y + tall // 2), (x + side + wide // 4, y + tall), legs, -1)
    # fewer levels: smooth grounds compress better
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.2), np.uint8) & np.uint8(0xFC)
