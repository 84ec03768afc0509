"""AP50 of one detector from several starts: the same steps and augmentation, paired over pictures, averaged over seeds.

Run: python tests/bench/bench_pretrain.py --data DATA --folder rice_weeds --label weed --steps 300 --seeds 1,2,3

--split train cuts the training pictures into --parts: each is measured on by a network that has seen the others only.
Another split is measured on by networks that were trained on all training pictures: look at a test split once.
Starts: random; self-supervised (pre-trained on the very pictures that it then learns from, boxes unused; once a part, then
shared by all seeds); fetched (the
weights of --onnx, of the network yolox only). --work keeps what is done, so that a run that is stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.detection import DetectionSet
from compress.data.formats.coco import load_coco
from compress.measure.detection import (
    EVAL_SCORE_THRESHOLD,
    BundleDetector,
    find_boxes,
    measure_matches,
    truth_of,
)
from compress.measure.matches import Matches, match_boxes
from compress.measure.metric import interval95
from compress.measure.pairs import paired_difference
from compress.networks.grid_heads import PRIOR_SCORE
from compress.quantize.tflite import convert_tflite
from compress.quiet import start_tensorflow
from compress.tasks.detect import DetectTask
from compress.train.fit import FitSettings, fit
from compress.train.picture_augment import PictureAugment
from compress.train.pretrain import PretrainSettings, backbone_layers, pretrain
from edgeai.bundle.manifest import Decoder, ImageInput
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.errors import EdgeError
from edgeai.types import Detections
from edgeai.whole_file import write_whole

STARTS = ("random", "self-supervised", "fetched")
PARTS_SEED = 7


class Experiment:
    """What all runs have in common."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.yolox = args.network == "yolox"
        self.strides = (8, 16, 32) if self.yolox else (8, 16)
        std = (1.0, 1.0, 1.0) if self.yolox else (255.0, 255.0, 255.0)
        self.spec = ImageInput(name="image", width=args.width, height=args.height, std=std)
        kinds = ("box", "object", "class") if self.yolox else ("box", "class")
        self.decoder = Decoder(
            name="grid",
            params={
                "width": args.width,
                "height": args.height,
                "strides": list(self.strides),
                "layout": "maps",
                "activation": "sigmoid",
                "maps": {kind: [f"{kind}_{s}" for s in self.strides] for kind in kinds},
            },
        )

    def open_network(self, start: str, seed: int) -> Any:
        """The untrained network, or the fetched one."""
        import keras

        keras.utils.set_random_seed(seed)
        size = {"height": self.args.height, "width": self.args.width, "strides": self.strides}
        if not self.yolox:
            from compress.networks.grid_detector import grid_detector
            from compress.networks.plain_detector import plain_detector

            build = plain_detector if self.args.network == "plain" else grid_detector
            return build(**size, classes=1)
        from compress.networks.yolox import yolox_from_onnx

        fetched = yolox_from_onnx(self.args.onnx, **size, keep_classes=[0])
        return fetched if start == "fetched" else forget(fetched)

    def train(
        self, start: str, seed: int, training: DetectionSet, name: str, part: int
    ) -> tuple[Any, dict[str, Any]]:
        """The trained network, and what is worth knowing about the way there."""
        args = self.args
        began, told = time.monotonic(), {}
        network = self.open_network(start, seed)
        if start == "self-supervised":
            told = self.pretrain(network, training, name, part)
        pretrained_s = time.monotonic() - began
        task = DetectTask(training, training, self.spec, self.decoder, self.strides, PictureAugment(), seed)
        settings = FitSettings(
            steps=args.steps, batch=args.batch, learning_rate=args.learning_rate, average=0.98, seed=seed
        )
        done = fit(
            network,
            lambda rng: task.make_batch(rng, settings.batch),
            lambda outputs, batch: task.label_loss(outputs, batch["targets"]),
            settings,
            description=f"{name}: train",
        )
        curve = [round(float(np.mean(part)), 3) for part in np.array_split(done.losses, 6)]
        seconds = {"pretrain_s": round(pretrained_s), "s": round(time.monotonic() - began)}
        return network, {**told, "loss": curve, **seconds}

    def pretrain(self, network: Any, training: DetectionSet, name: str, part: int) -> dict[str, Any]:
        """The backbone that all seeds of a part share: pre-training takes longer than what it is for."""
        args = self.args
        kept = args.work / f"{args.network}-backbone-{args.split}-{part}.npz"
        settings = PretrainSettings.model_validate_json(args.pretrain)
        known = json.dumps(_settings(args)["pretrain"])
        if kept.is_file():
            with np.load(kept, allow_pickle=False) as file:
                arrays = [file[f"{number}"] for number in range(len(file.files) - 2)]
                told, made_with = json.loads(str(file["told"])), str(file["settings"])
            if made_with == known:
                _set_backbone(network, arrays)
                return told
        looker = self.open_network("random", settings.seed)
        result = pretrain(
            looker, [p.path for p in training.pictures], self.spec, settings, description=f"{name}: look"
        )
        told = {
            "spread": round(result.spread, 3),
            "matched": round(result.matched, 3),
            "matched_before": round(result.matched_before, 3),
        }
        arrays = [value for layer in backbone_layers(looker) for value in layer.get_weights()]
        named = {f"{number}": value for number, value in enumerate(arrays)}
        part_file = kept.with_suffix(".part.npz")
        np.savez(part_file, told=json.dumps(told), settings=known, **named)
        part_file.replace(kept)
        _set_backbone(network, arrays)
        return told

    def find(self, network: Any, data: DetectionSet, work: Path) -> list[Detections]:
        """Boxes through the device's own engine and decoder."""
        path = work / "measured.tflite"
        path.write_bytes(convert_tflite(network, "float32"))
        engine = EdgeEngine(open_model_file(path, threads=1), self.spec)
        try:
            detect = BundleDetector(
                engine, self.spec, self.decoder, data.labels, score_threshold=EVAL_SCORE_THRESHOLD
            )
            return find_boxes(detect, data)[0]
        finally:
            engine.close()


def _set_backbone(network: Any, arrays: Sequence[Any]) -> None:
    variables = [variable for layer in backbone_layers(network) for variable in layer.weights]
    for variable, value in zip(variables, arrays, strict=True):
        variable.assign(value)


def forget(network: Any) -> Any:
    """The same layers with random weights: He et al. 2015, as a network without batch norms needs them."""
    import keras

    def fresh(layer: Any) -> Any:
        config = layer.get_config()
        for key in ("kernel_initializer", "depthwise_initializer"):
            if key in config:
                config[key] = "he_normal"
        if layer.name.startswith(("class_", "object_")):
            # "nothing here" to begin with: the score is the product of both
            bias = float(np.log(PRIOR_SCORE**0.5 / (1 - PRIOR_SCORE**0.5)))
            config["bias_initializer"] = keras.initializers.Constant(bias)
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=fresh)


def cut_parts(data: DetectionSet, parts: int) -> list[tuple[DetectionSet, DetectionSet]]:
    """(learnt from, measured on) for each part; every picture is measured on once."""
    order = np.random.default_rng(PARTS_SEED).permutation(len(data))
    made = []
    for number in range(parts):
        held = set(order[number::parts].tolist())
        sides = [
            replace(data, pictures=tuple(p for i, p in enumerate(data.pictures) if (i in held) == measured))
            for measured in (False, True)
        ]
        made.append((sides[0], sides[1]))
    return made


def run(args: argparse.Namespace) -> dict[str, Any]:
    start_tensorflow()
    folder = args.data / args.folder
    training = load_coco(folder, "train", [args.label])
    if args.split == "train":
        parts = cut_parts(training, args.parts)[: args.use_parts]
    else:
        parts = [(training, load_coco(folder, args.split, [args.label]))]
    experiment = Experiment(args)
    args.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Matches]] = {}
    runs: list[dict[str, Any]] = []
    for seed in args.seeds:
        for start in args.starts:
            boxes: list[Detections] = []
            for number, (learnt, measured) in enumerate(parts):
                name = f"{args.network}, {start}, seed {seed}, part {number + 1}/{len(parts)}"
                known = args.work / f"{args.network}-{start}-{seed}-{args.split}-{number}.json"
                record = _load(known, args)
                if record is None:
                    network, told = experiment.train(start, seed, learnt, name, number)
                    here = experiment.find(network, measured, args.work)
                    record = {"settings": _settings(args), "told": told, "boxes": [_to_json(b) for b in here]}
                    write_whole(known, json.dumps(record))
                runs.append({"start": start, "seed": seed, "part": number, **record["told"]})
                boxes += [_from_json(b) for b in record["boxes"]]
            whole = replace(training, pictures=tuple(p for _, held in parts for p in held.pictures))
            matches = match_boxes(truth_of(whole), boxes, classes=1, ious=(0.5,))["all"]
            found.setdefault(start, []).append(matches)
            value = measure_matches(matches, interval=False).value
            runs[-1]["ap50"] = round(value, 4)
            print_note(f"{args.network}, {start}, seed {seed}: AP50 {value:.3f}; {json.dumps(runs[-1])}")
    return _report(args, found, runs)


def _report(args: argparse.Namespace, found: dict[str, list[Matches]], runs: list[Any]) -> dict[str, Any]:
    def mean_ap(start: str) -> Any:
        return lambda picks: float(np.mean([matches.average(picks) for matches in found[start]]))

    n = next(iter(found.values()))[0].pictures
    everything = np.arange(n)
    results = []
    for start, several in found.items():
        low, high = interval95(n, mean_ap(start), rounds=500)
        each = [round(matches.average(), 4) for matches in several]
        row: dict[str, Any] = {
            "name": f"{args.network}/{start}_ap50",
            "unit": "1",
            "value": round(mean_ap(start)(everything), 4),
            "ci95": [round(low, 4), round(high, 4)],
            "seeds": each,
            "n": n,
        }
        if start != args.starts[0]:
            gain = paired_difference(n, mean_ap(args.starts[0]), mean_ap(start))
            row["gain"], row["gain_ci95"] = round(gain.value, 4), [round(v, 4) for v in gain.ci95]
        results.append(row)
    return {
        "bench": "pretrain",
        "device": {"machine": platform.machine()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "settings": _settings(args),
        "results": results,
        "runs": runs,
    }


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What a kept result must have been made with."""
    names = (
        "folder",
        "label",
        "split",
        "parts",
        "width",
        "height",
        "steps",
        "batch",
        "learning_rate",
        "augment",
    )
    return {name: getattr(args, name) for name in names} | {
        "pretrain": PretrainSettings.model_validate_json(args.pretrain).model_dump(mode="json")
    }


def _load(path: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    same = record["settings"] == _settings(args) or (
        "self-supervised" not in path.name
        and {**record["settings"], "pretrain": None} == {**_settings(args), "pretrain": None}
    )
    return record if same else None


def _to_json(boxes: Detections) -> list[Any]:
    return [boxes.xyxy_px.round(2).tolist(), boxes.scores.round(5).tolist(), boxes.class_ids.tolist()]


def _from_json(value: list[Any]) -> Detections:
    return Detections(
        np.array(value[0], np.float32).reshape(-1, 4),
        np.array(value[1], np.float32),
        np.array(value[2], np.int32),
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds --folder")
    parser.add_argument("--folder", default="rice_weeds")
    parser.add_argument("--label", default="weed")
    parser.add_argument("--split", default="train", help="what is measured on")
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--use-parts", type=int, default=None, help="measure on the first of them only")
    parser.add_argument("--network", choices=("plain", "grid", "yolox"), default="plain")
    parser.add_argument("--onnx", type=Path, help="of --network yolox")
    parser.add_argument(
        "--starts", type=lambda text: tuple(text.split(",")), default=("random", "self-supervised")
    )
    parser.add_argument(
        "--seeds", type=lambda text: tuple(int(v) for v in text.split(",")), default=(1, 2, 3)
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--pretrain", default='{"steps": 1500}', help="PretrainSettings, as JSON")
    parser.add_argument("--augment", default="{}", help="settings of PictureAugment, as JSON")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--work", type=Path, default=Path("out/bench_pretrain"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    unknown = [start for start in args.starts if start not in STARTS]
    if unknown:
        parser.error(f"there is no start {unknown[0]!r}; there are {', '.join(STARTS)}")
    if ("fetched" in args.starts and args.network != "yolox") or (args.network == "yolox" and not args.onnx):
        parser.error("--starts fetched needs --network yolox, and that needs --onnx FILE")
    try:
        report = run(args)
    except EdgeError as error:
        print_note(f"bench_pretrain: error: {error}")
        return error.exit_code
    if args.json:
        print_json(report)
        return 0
    rows = [
        (
            row["name"].split("/")[1].removesuffix("_ap50"),
            f"{row['value']:.3f}",
            "{:.3f} to {:.3f}".format(*row["ci95"]),
            f"{row['gain']:+.3f}" if "gain" in row else "",
            "{:+.3f} to {:+.3f}".format(*row["gain_ci95"]) if "gain" in row else "",
        )
        for row in report["results"]
    ]
    print_table((f"{args.network}, from", "AP50", "95 %", "gain", "95 %, paired"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
