"""Pictures with more of a rare class: drawn by a small network, or real ones again, where the surroundings are alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compress.data.detection import DetectionSet, LabelledPicture, read_picture
from compress.data.synthesize.crops import Crops, Images, Likeness, contact_sheet, cut_crops, measure_likeness
from compress.data.synthesize.gan import MIN_CROPS, draw_layers, put_layers, train_generator
from compress.data.synthesize.paste import Window, blend_crop, blend_layer, find_window
from edgeai.console import progress_bar
from edgeai.errors import DataError, UsageError
from edgeai.whole_file import check_free, new_folder

Method = Literal["gan", "copy"]
METHODS: tuple[Method, ...] = ("gan", "copy")
MAX_COUNT = 20_000
STEPS = 1500
COPY_PX = 128  # what is copied need not be small enough to be learnt
CONTACT_SHEET = "contact_sheet.png"
MIN_WINDOWS = 200
_TRIES = 20  # pictures without room before that is told, and as many as with room


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
    of real and made crops. "gan" trains a network for `steps` to draw the class into its surroundings; "copy"
    pastes real crops. Raises DataError for fewer than 12 crops ("gan"; "copy" needs one) or pictures without room,
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
    real = crops_for(data, class_id, method)
    with new_folder(out) as part:
        new, likeness, sheet = make_pictures(
            data, class_id, real, part / "images", count=count, steps=steps, seed=seed, method=method
        )
        write_coco(part, split, new)
        cv2.imwrite(str(part / CONTACT_SHEET), sheet)
    return MadePictures(out, len(real.images), count, likeness)


def class_of(data: DetectionSet, label: str) -> int:
    """The number of a label. Raises UsageError that names those that there are."""
    if label not in data.labels:
        raise UsageError(f"there is no label {label!r}; there is {', '.join(data.labels[:12])}")
    return data.labels.index(label)


def crops_for(data: DetectionSet, class_id: int, method: Method) -> Crops:
    """The crops of a class that a method works on. Raises DataError where they are too few."""
    real = cut_crops(data, class_id, size=None if method == "gan" else COPY_PX)
    least = MIN_CROPS if method == "gan" else 1
    if len(real.images) < least:
        other = "; --method copy pastes the real ones and needs one" if method == "gan" else ""
        raise DataError(
            f"{len(real.images)} boxes of {data.labels[class_id]!r} are large enough and stand alone, at least {least} "
            f"are needed{other}",
            next_step="label more of them",
        )
    return real


def make_pictures(
    data: DetectionSet,
    class_id: int,
    real: Crops,
    folder: Path,
    *,
    count: int,
    steps: int,
    seed: int,
    method: Method,
) -> tuple[DetectionSet, Likeness | None, Images]:
    """Write `count` pictures of `data`, one more object in each, into `folder`: (labels, likeness, contact sheet).

    Raises DataError where pictures have no room.
    """
    rng = np.random.default_rng([seed, 2])
    # the network learns on the windows that it will draw into, and on some more where those are few
    planned = _plan(data, real, count if method == "copy" else max(count, MIN_WINDOWS), rng)
    if method == "copy":
        made, likeness = real.images[[place.crop for place in planned]], None
        layers = None
    else:
        backgrounds = np.stack([place.background for place in planned])
        generator = train_generator(real.images, backgrounds, steps=steps, seed=seed)
        layers = draw_layers(generator, backgrounds, seed=seed)
        made = put_layers(backgrounds, layers)
        likeness = measure_likeness(real.images, backgrounds, made)
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[LabelledPicture] = []
    with progress_bar("writing", count) as advance:
        for number, place in enumerate(planned[:count]):
            picture = data.pictures[place.picture]
            source = read_picture(picture.path)
            if layers is None:
                image = blend_crop(source, place.window, made[number])
            else:
                image = blend_layer(source, place.window, layers[number])
            pictures.append(_write(image, picture, place.window, class_id, folder, number))
            advance(1)
    return DetectionSet(data.labels, tuple(pictures)), likeness, contact_sheet(real.images, made)


@dataclass(frozen=True, slots=True)
class _Place:
    """picture: its number. crop: the number of the real one whose surroundings are alike. background: as large as that."""

    picture: int
    crop: int
    window: Window
    background: Images


def _plan(data: DetectionSet, real: Crops, count: int, rng: np.random.Generator) -> list[_Place]:
    import cv2

    planned: list[_Place] = []
    order = _endless(len(data), rng)
    size = real.images.shape[1]
    full = 0
    with progress_bar("looking for places", count) as advance:
        while len(planned) < count:
            number = next(order)
            picture = data.pictures[number]
            source = read_picture(picture.path)
            to_file = _to_file(picture, source)
            taken = np.concatenate((picture.xyxy_px, picture.crowd_px)) * to_file
            crop = int(rng.integers(len(real.images)))
            sides = real.sides_px[crop] * to_file[:2] * np.exp(rng.uniform(-0.15, 0.15))
            window = find_window(source, real.images[crop], sides, taken, rng=rng)
            if window is None:
                full += 1
                if full > _TRIES + len(planned):
                    raise DataError(
                        f"most pictures have no free place for another object of {sides[0]:.0f} x {sides[1]:.0f} pixels",
                        next_step="add pictures with room",
                    )
                continue
            background = cv2.resize(window.of(source), (size, size), interpolation=cv2.INTER_AREA)
            planned.append(_Place(number, crop, window, np.asarray(background, np.uint8)))
            advance(1)
    return planned


def _write(
    image: Images, picture: LabelledPicture, window: Window, class_id: int, folder: Path, number: int
) -> LabelledPicture:
    import cv2

    # photographs stay JPEG, drawings and scans stay exact
    photograph = picture.path.suffix.lower() in (".jpg", ".jpeg")
    path = folder / f"{number:05d}_{picture.path.stem[:80]}{'.jpg' if photograph else '.png'}"
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95] if photograph else []):
        raise DataError(f"{path} cannot be written")
    box = window.box_px / _to_file(picture, image)
    return replace(
        picture,
        path=path,
        xyxy_px=np.concatenate((picture.xyxy_px, box[np.newaxis])),
        class_ids=np.append(picture.class_ids, np.int32(class_id)),
        scores=np.append(picture.scores, np.float32(1)),
    )


def _to_file(picture: LabelledPicture, image: Images) -> NDArray[np.float32]:
    """(4,) factors: labels may have been made at another size than the file has."""
    return np.array([image.shape[1] / picture.width, image.shape[0] / picture.height] * 2, np.float32)


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()
