"""From a candidate to a bundle: engine files, labels, golden input and outputs, and everything a device must know."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.candidate import Candidate
from compress.quantize.tflite import convert_tflite
from compress.recipe import Recipe
from edgeai import __version__
from edgeai.bundle import Bundle, write_bundle
from edgeai.bundle.golden import make_golden
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file

# of a golden output's range; int8 steps add up over a network, float formats only round
TOLERANCES = {"float32": 0.001, "float16": 0.02, "dynamic": 0.1, "int8": 0.25}


def write_candidate(
    recipe: Recipe, candidate: Candidate, out: Path, *, records: list[dict[str, Any]], date: str
) -> Bundle:
    """Write the bundle in `out`, replacing the one that is there. Raises BundleError; nothing half-written."""
    files: dict[str, Path | bytes] = {file.path.name: file.path for file in candidate.files}
    files["labels.txt"] = ("\n".join(recipe.labels) + "\n").encode()
    files["golden.npz"] = _golden(recipe, candidate)
    entries = [
        {
            "path": file.path.name,
            "format": file.format,
            "precision": file.precision,
            "tolerance": TOLERANCES[file.precision],
        }
        for file in candidate.files
    ]
    last = records[-1]
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
        "provenance": {"made_by": f"edgeai-compress {__version__}", "date": date, "passes": records},
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "measured": [
            {
                "metric": f"validation {last['metric']}",
                "value": last["value"],
                "ci95": last["ci95"],
                "n": last["n"],
                "file": next(
                    (f.path.name for f in candidate.files if f.precision == "int8"),
                    candidate.files[0].path.name,
                ),
                "data": "held-out part of the training data",
                "device": platform.processor() or platform.machine(),
                "date": date,
            }
        ],
    }
    return write_bundle(out, fields, files)


def _golden(recipe: Recipe, candidate: Candidate) -> bytes:
    """The float32 network's outputs on a generated input: no data set's picture or clip goes into a bundle."""
    path = candidate.files[0].path.with_name("golden-float32.tflite")
    path.write_bytes(convert_tflite(candidate.network, "float32"))
    engine = EdgeEngine(open_model_file(path, threads=1), recipe.input)
    try:
        return make_golden(engine, generated_input(recipe.input, engine.inputs[0].shape))
    finally:
        engine.close()
        path.unlink()


def generated_input(spec: ImageInput | LogMelInput, shape: tuple[int, ...]) -> NDArray[Any]:
    """A picture of coloured blocks or smooth features, from a fixed seed; small when compressed."""
    rng = np.random.default_rng(7)
    if isinstance(spec, ImageInput):
        rows, columns = -(-spec.height // 32), -(-spec.width // 32)
        blocks = rng.integers(0, 256, (rows, columns, 3)).astype(np.uint8)
        return np.kron(blocks, np.ones((32, 32, 1), np.uint8))[: spec.height, : spec.width]
    rise = np.linspace(-1, 1, spec.frames)[:, None] * np.sin(np.linspace(0, 9, spec.mels))[None]
    return rise.reshape(shape).astype(np.float32)
