"""Speakers nobody trained on: a keyword recipe run without each speaker of a data set in turn, and measured on that one.

Run: make bench-speakers, or ARGS="--recipe models/digits/recipe.toml --speakers theo"; some ten minutes a speaker on two cores.

Everything else of the recipe stays, so the figure is the recipe's, not of the model that it makes from all of them. No test
split is opened: the speakers are the training split's.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.speech import SpeechSet, load_speech, read_speech_list
from compress.measure.keywords import score_keywords
from compress.quiet import start_tensorflow
from compress.recipe import Recipe, SpeechData, load_recipe
from compress.run import run_recipe
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import LogMelInput
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import open_file
from edgeai.errors import DataError, EdgeError
from edgeai.stages.audio.logmel import samples_for

RECIPE = Path(__file__).resolve().parents[2] / "models/digits/recipe.toml"


def speakers_of(recipe: Recipe, data: Path) -> tuple[SpeechData, list[str]]:
    """The recipe's first list of clips, and who speaks in it. Raises DataError where no speaker is told."""
    source = next((one for one in recipe.data.train if isinstance(one, SpeechData)), None)
    if source is None:
        raise DataError(f"recipe {recipe.name} reads no list of clips")
    rows, _ = read_speech_list(data / source.folder / f"{source.split}.csv", source.column)
    found = sorted({row["speaker"] for row in rows if row.get("speaker")})
    if len(found) < 2:
        raise DataError(f"{source.folder} tells of {len(found)} speakers, two are needed")
    return source, found


def without(recipe: Recipe, source: SpeechData, speaker: str) -> Recipe:
    """The recipe with a speaker left out of one of its lists."""
    fewer = source.model_copy(update={"leave_out": (*source.leave_out, speaker)})
    train = tuple(fewer if one is source else one for one in recipe.data.train)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": train})})


def only(recipe: Recipe, source: SpeechData, speakers: Sequence[str], speaker: str, data: Path) -> SpeechSet:
    """The clips of one speaker."""
    spec = recipe.input
    assert isinstance(spec, LogMelInput)  # a keyword recipe's
    return load_speech(
        data / source.folder,
        source.split,
        recipe.labels,
        samples=samples_for(spec.frames, spec),
        sample_rate_hz=spec.sample_rate_hz,
        column=source.column,
        called=source.called,
        leave_out=[name for name in speakers if name != speaker],
    )


def made(recipe: Recipe, *, data: Path, out: Path) -> Bundle:
    """The recipe's bundle in `out`, made unless it is there."""
    if not (out / "manifest.json").is_file():
        run_recipe(recipe, data_root=data, out=out, work=out.parent / "work" / out.name)
    return load_bundle(str(out))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--speakers", help="comma-separated; without, all of the recipe's first list")
    parser.add_argument(
        "--work", type=Path, default=Path("out/bench_speakers"), help="keeps what was trained"
    )
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args(argv)
    start_tensorflow()
    rows: list[dict[str, Any]] = []
    try:
        recipe = load_recipe(args.recipe)
        source, speakers = speakers_of(recipe, args.data)
        for speaker in args.speakers.split(",") if args.speakers else speakers:
            bundle = made(
                without(recipe, source, speaker), data=args.data, out=args.work / f"{recipe.name}-{speaker}"
            )
            clips = only(recipe, source, speakers, speaker, args.data)
            assert isinstance(recipe.input, LogMelInput)
            with open_file(bundle, bundle.engine_file("tflite", "int8"), threads=1) as engine:
                metric = score_keywords(engine, recipe.input, clips).metric()
            rows.append({"name": speaker, "value": metric.value, "n": metric.n})
            print_note(f"without {speaker}: {metric.value:.3f} of its {metric.n} clips")
    except EdgeError as error:
        print(error, file=sys.stderr)
        return 1
    rows.append(
        {
            "name": "mean",
            "value": float(np.mean([row["value"] for row in rows])),
            "n": sum(row["n"] for row in rows),
        }
    )
    if args.json:
        device = {"machine": platform.machine(), "cpus": os.cpu_count()}
        results = [{**row, "unit": "1"} for row in rows]
        print_json(
            {"bench": "speakers", "device": device, "versions": {"numpy": np.__version__}, "results": results}
        )
        return 0
    print_table(
        ["speaker left out", "accuracy on their clips", "n"],
        [[r["name"], f"{r['value']:.3f}", r["n"]] for r in rows],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
