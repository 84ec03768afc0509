"""Pictures with more of a rare class: crops drawn by a generator, or the real ones again, pasted where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, LabelledPicture, read_picture
from compress.data.synthesize.crops import Crops, Images, Likeness, contact_sheet, cut_crops, measure_likeness
from compress.data.synthesize.gan import MIN_CROPS, draw_crops, train_generator
from compress.data.synthesize.paste import paste_crop
from compress.data.whole_file import check_free, new_folder
from edgeai.console import progress_bar
from edgeai.errors import DataError, UsageError

Method = Literal["gan", "copy"]
METHODS: tuple[Method, ...] = ("gan", "copy")
MAX_COUNT = 20_000
STEPS = 1500
COPY_PX = 128  # what is copied need not be small enough to be learnt
CONTACT_SHEET = "contact_sheet.png"
_TRIES = 5  # pictures that are full, one after the other, before that is told


@dataclass(frozen=True, slots=True)
class MadePictures:
    """crops: real ones of the class; likeness: None where they were copied. pictures: written, one new box in each."""

    folder: Path
    crops: int
    pictures: int
    likeness: Likeness | None


def synthesize_pictures(
    folder: Path,
    label: str,
    out: Path,
    *,
    split: str = "train",
    count: int = 200,
    steps: int = STEPS,
    seed: int = 0,
    method: Method = "gan",
) -> MadePictures:
    """Make the new COCO folder `out`: `count` pictures of `split`, each with one more `label` in it; all other boxes kept.

    folder: boxes in any format of compress.data.formats. Writes out/images, out/instances_<split>.json and a contact sheet
    of real and made crops. "gan" trains a generator on the class's crops for `steps`; "copy" pastes those crops
    themselves. Raises DataError for fewer than 12 crops ("gan"; "copy" needs one) or pictures without room,
    UsageError for a wrong number or label.
    """
    import cv2

    from compress.data.formats import load_detections
    from compress.data.formats.coco import write_coco

    if not 1 <= count <= MAX_COUNT or steps < 1:
        raise UsageError(f"count must be 1 to {MAX_COUNT}, steps at least 1; got {count} and {steps}")
    if "test" in split.lower() or "hold" in split.lower():
        raise UsageError(
            f"the split {split!r} is there to be measured on, not to make training data from",
            next_step="use --split train",
        )
    check_free(out)
    data = load_detections("auto", folder, split, None)
    class_id = class_of(data, label)
    real = cut_crops(data, class_id, size=None if method == "gan" else COPY_PX)
    check_crops(real, label, method)
    made, likeness = make_crops(real, count, steps=steps, seed=seed, method=method)
    with new_folder(out) as part:
        new = paste_crops(
            data, class_id, made, part / "images", count=count, rng=np.random.default_rng([seed, 2])
        )
        write_coco(part, split, new)
        cv2.imwrite(str(part / CONTACT_SHEET), contact_sheet(real.images, made.images))
    return MadePictures(out, len(real.images), count, likeness)


def class_of(data: DetectionSet, label: str) -> int:
    """The number of a label. Raises UsageError that names those that there are."""
    if label not in data.labels:
        raise UsageError(f"there is no label {label!r}; there is {', '.join(data.labels[:12])}")
    return data.labels.index(label)


def check_crops(real: Crops, label: str, method: Method) -> None:
    """Raise DataError where there are too few crops for a method."""
    least = MIN_CROPS if method == "gan" else 1
    if len(real.images) < least:
        other = "; --method copy pastes the real ones and needs one" if method == "gan" else ""
        raise DataError(
            f"{len(real.images)} boxes of {label!r} are large enough and stand alone, at least {least} are needed{other}",
            next_step="label more of them",
        )


def make_crops(
    real: Crops, count: int, *, steps: int, seed: int, method: Method
) -> tuple[Crops, Likeness | None]:
    """`count` crops to paste, with sides drawn from the real ones, and how like the real ones they are ("gan")."""
    rng = np.random.default_rng([seed, 3])
    picks = rng.integers(0, len(real.images), count)
    sides = (real.sides_px[picks] * np.exp(rng.uniform(-0.15, 0.15, (count, 1)))).astype(np.float32)
    if method == "copy":
        return Crops(_mirrored(real.images[picks], rng), sides), None
    generator = train_generator(real.images, steps=steps, seed=seed)
    likeness = measure_likeness(real.images, draw_crops(generator, max(100, min(count, 400)), seed=seed + 1))
    return Crops(draw_crops(generator, count, seed=seed), sides), likeness


def _mirrored(images: Images, rng: np.random.Generator) -> Images:
    flipped = rng.random(len(images)) < 0.5
    images = images.copy()
    images[flipped] = images[flipped, :, ::-1]
    return images


def paste_crops(
    data: DetectionSet, class_id: int, crops: Crops, folder: Path, *, count: int, rng: np.random.Generator
) -> DetectionSet:
    """Write `count` pictures of `data`, one crop pasted into each, into `folder`; what they are labelled with.

    Raises DataError where pictures have no room.
    """
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    made: list[LabelledPicture] = []
    order = _endless(len(data), rng)
    with progress_bar("pasting", count) as advance:
        for number in range(count):
            for _ in range(_TRIES):
                picture = data.pictures[next(order)]
                source = read_picture(picture.path)
                pasted = _paste(source, picture, crops, number, rng)
                if pasted is not None:
                    break
            else:
                raise DataError(
                    f"{_TRIES} pictures one after the other have no free place for another {data.labels[class_id]!r}",
                    next_step="add pictures with room",
                )
            image, box = pasted
            # photographs stay JPEG, drawings and scans stay exact
            photograph = picture.path.suffix.lower() in (".jpg", ".jpeg")
            path = folder / f"{number:05d}_{picture.path.stem[:80]}{'.jpg' if photograph else '.png'}"
            if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95] if photograph else []):
                raise DataError(f"{path} cannot be written")
            made.append(
                replace(
                    picture,
                    path=path,
                    xyxy_px=np.concatenate((picture.xyxy_px, box[np.newaxis])),
                    class_ids=np.append(picture.class_ids, np.int32(class_id)),
                    scores=np.append(picture.scores, np.float32(1)),
                )
            )
            advance(1)
    return DetectionSet(data.labels, tuple(made))


def _paste(
    source: Images, picture: LabelledPicture, crops: Crops, number: int, rng: np.random.Generator
) -> tuple[Images, NDArray[np.float32]] | None:
    """The picture with crop `number` in it, and the new box in the pixels that its label counts."""
    to_file = np.array([source.shape[1] / picture.width, source.shape[0] / picture.height] * 2, np.float32)
    taken = np.concatenate((picture.xyxy_px, picture.crowd_px)) * to_file
    index = number % len(crops.images)
    pasted = paste_crop(source, crops.images[index], crops.sides_px[index] * to_file[:2], taken, rng=rng)
    return None if pasted is None else (pasted[0], pasted[1] / to_file)


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()
