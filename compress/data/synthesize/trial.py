"""Does it help? A small detector with the class made rare: as it is, with copied crops, with generated ones.

All on one split: a part is held out and measured on; in the rest all but a few boxes of the class are hidden (marked as
regions not to learn from), and only those few feed the generator.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, join_sets
from compress.data.synthesize.crops import Likeness
from compress.data.synthesize.pictures import Method, class_of, crops_for, make_pictures
from compress.measure.metric import bootstrap_ci95, interval95
from edgeai.errors import DataError, UsageError

HELD_OUT = 0.35
MIN_HELD_OUT = 10
SIDE_PX = 320
STRIDES = (8, 16)
SEEDS = (1, 2)
BATCH = 12
STEPS = 500
MIN_AP50 = 0.02  # below, no arm has learnt anything that could be compared


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference of AP50 on the same pictures, with its 95 % interval (bootstrap over pictures)."""

    value: float
    ci95: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.value:+.3f} ({self.ci95[0]:+.3f} to {self.ci95[1]:+.3f})"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way, over all seeds. ap50: of the class, mean over the seeds; gain: over the plain arm, copy_gain: over copies."""

    name: str
    ap50: float
    ap50_ci95: tuple[float, float]
    gain: Gain
    copy_gain: Gain
    by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """arms: plain, copy, gan. kept: boxes of the class to learn from. held_out: pictures measured on; boxes: in them."""

    arms: tuple[Arm, ...]
    kept: int
    held_out: int
    boxes: int
    likeness: Likeness | None

    @property
    def verdict(self) -> str:
        """One line for people: what the generated pictures did, beside nothing and beside copies."""
        if max(arm.ap50 for arm in self.arms) < MIN_AP50:
            return "no detector found the class, so the trial says nothing: give more --try-steps, or --keep more boxes"
        gan = next(arm for arm in self.arms if arm.name == "gan")
        plain = {1: "generated pictures helped", 0: "generated pictures made no clear difference"}
        beside = {1: "and more than copies", 0: "and no clear one beside copies, which cost nothing"}
        said = plain.get(_sign(gan.gain), "generated pictures did harm")
        also = beside.get(_sign(gan.copy_gain), "and less than copies, which cost nothing")
        return f"{said}, {gan.gain} AP50, {also}, {gan.copy_gain}"


def _sign(gain: Gain) -> int:
    """1 or -1 where the interval leaves out zero."""
    return int(gain.ci95[0] > 0) - int(gain.ci95[1] < 0)


def try_pictures(
    folder: Path,
    label: str,
    *,
    split: str = "train",
    keep: int = 15,
    count: int = 200,
    generator_steps: int,
    steps: int = STEPS,
    seed: int = 0,
) -> Trial:
    """Train the plain detector on each arm with both seeds, `steps` steps each, and measure on the held-out pictures.

    Raises UsageError for a label that is not there, DataError where there is too little to hold out or to learn from.
    """
    from compress.data.formats import load_detections

    if not 1 <= steps <= 100_000:
        raise UsageError(f"a trial takes 1 to 100000 steps, got {steps}")
    data = load_detections("auto", folder, split, None)
    class_id = class_of(data, label)
    kept, held = data.split(HELD_OUT)
    boxes = sum(int((p.class_ids == class_id).sum()) for p in held.pictures)
    if len(held) < MIN_HELD_OUT or boxes < MIN_HELD_OUT:
        raise DataError(
            f"{len(held)} pictures with {boxes} boxes of {label!r} to measure on say nothing",
            next_step=f"a trial needs at least {MIN_HELD_OUT} of both in {HELD_OUT:.0%} of the split",
        )
    rare = make_rare(kept, class_id, keep=keep, rng=np.random.default_rng(seed))
    methods: tuple[Method, ...] = ("copy", "gan")
    crops = {method: crops_for(rare, class_id, method) for method in methods}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sets, likeness = {"plain": rare}, None
        for method, real in crops.items():
            new, seen, _ = make_pictures(
                rare,
                class_id,
                real,
                work / method,
                count=count,
                steps=generator_steps,
                seed=seed,
                method=method,
            )
            likeness = seen or likeness
            sets[method] = join_sets([rare, new])
        averages: dict[str, list[Average]] = {
            arm: [_train_and_measure(each, held, class_id, work, steps, s, f"{arm}, seed {s}") for s in SEEDS]
            for arm, each in sets.items()
        }
    arms = tuple(_arm(name, averages, len(held)) for name in sets)
    return Trial(
        arms, int(sum((p.class_ids == class_id).sum() for p in rare.pictures)), len(held), boxes, likeness
    )


def make_rare(data: DetectionSet, class_id: int, *, keep: int, rng: np.random.Generator) -> DetectionSet:
    """The set with `keep` random boxes of a class; the others become crowd regions: nothing is learnt where they are."""
    owners = [(i, k) for i, p in enumerate(data.pictures) for k in np.flatnonzero(p.class_ids == class_id)]
    chosen = {owners[i] for i in rng.permutation(len(owners))[:keep]}
    pictures = []
    for number, picture in enumerate(data.pictures):
        hidden = np.array(
            [c == class_id and (number, k) not in chosen for k, c in enumerate(picture.class_ids)], bool
        )
        pictures.append(
            replace(
                picture,
                xyxy_px=picture.xyxy_px[~hidden],
                class_ids=picture.class_ids[~hidden],
                scores=picture.scores[~hidden],
                crowd_px=np.concatenate((picture.crowd_px, picture.xyxy_px[hidden])),
            )
        )
    return DetectionSet(data.labels, tuple(pictures))


# the class's AP50 over any pick of the held-out pictures
Average = Callable[[NDArray[np.intp] | None], float]


def _train_and_measure(
    training: DetectionSet, held: DetectionSet, class_id: int, work: Path, steps: int, seed: int, name: str
) -> Average:
    import keras

    from compress.measure.detection import EVAL_SCORE_THRESHOLD, BundleDetector, find_boxes, truth_of
    from compress.measure.matches import match_boxes
    from compress.networks.plain_detector import plain_detector
    from compress.quantize.tflite import convert_tflite
    from compress.tasks.detect import DetectTask
    from compress.train.fit import FitSettings, fit
    from compress.train.picture_augment import PictureAugment
    from edgeai.bundle.manifest import Decoder, ImageInput
    from edgeai.engines import EdgeEngine, open_model_file

    spec = ImageInput(width=SIDE_PX, height=SIDE_PX, mean=(127.5,) * 3, std=(64.0,) * 3)
    maps = {kind: [f"{kind}_{s}" for s in STRIDES] for kind in ("box", "class")}
    decoder = Decoder(
        name="grid",
        params={
            "width": SIDE_PX,
            "height": SIDE_PX,
            "strides": list(STRIDES),
            "layout": "maps",
            "activation": "sigmoid",
            "score_threshold": EVAL_SCORE_THRESHOLD,
            "maps": maps,
        },
    )
    keras.utils.set_random_seed(seed)
    network = plain_detector(height=SIDE_PX, width=SIDE_PX, classes=len(training.labels), strides=STRIDES)
    # objects rather larger than smaller, and the rare class drawn oftener: what few steps need, the same for every arm
    augmentation = PictureAugment(scale=(0.9, 1.8), mosaic=0.2)
    task = DetectTask(training, held, spec, decoder, STRIDES, augmentation, seed, class_weights="balanced")
    settings = FitSettings(steps=steps, batch=BATCH, learning_rate=2e-3, average=0.98, seed=seed)

    def make(rng: np.random.Generator) -> dict[str, Any]:
        return task.make_batch(rng, settings.batch)

    def loss(outputs: Any, batch: Any) -> Any:
        return task.label_loss(outputs, batch["targets"])

    fit(network, make, loss, settings, description=name)
    path = work / "trained.tflite"
    path.write_bytes(convert_tflite(network, "float32"))
    engine = EdgeEngine(open_model_file(path, threads=2), spec)
    try:
        found, _ = find_boxes(BundleDetector(engine, spec, decoder, held.labels), held)
    finally:
        engine.close()
    matches = match_boxes(truth_of(held), found, classes=len(held.labels))["all"]
    return lambda picks: matches.average(picks, class_id=class_id)


def _arm(name: str, averages: Mapping[str, list[Average]], pictures: int) -> Arm:
    def ap50(arm: str, picks: NDArray[np.intp] | None) -> float:
        return float(np.mean([run(picks) for run in averages[arm]]))

    def gain(over: str) -> Gain:
        value = ap50(name, None) - ap50(over, None)
        return Gain(value, bootstrap_ci95(pictures, lambda picks: ap50(name, picks) - ap50(over, picks)))

    return Arm(
        name,
        ap50(name, None),
        interval95(pictures, lambda picks: ap50(name, picks)),
        gain("plain"),
        gain("copy"),
        tuple(run(None) for run in averages[name]),
    )
