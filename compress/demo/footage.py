"""Where the demo's video and speech come from: what is given, what is at hand, what Debian carries, or a rendered scene."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeai.console import print_note
from edgeai.errors import DataMissingError, SourceMissingError
from edgeai.types import Detections

TEACHER_FILE = "models/detectors/yolox_nano_coco_416.onnx"
SHIRT_BGR = (60, 40, 200)
APT_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Footage:
    """origin: what it is, in words for the user. rendered: it is a drawn scene, and its teacher only knows colours."""

    video: Path
    origin: str
    rendered: bool = False


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound file and what is said in it, "" where nobody knows."""

    path: Path
    said: str


def find_footage(given: Path | None, *, data: Path, work: Path) -> Footage:
    """The first that there is: `given`, vtest.avi in the folder `data`, Debian's opencv-doc, a rendered scene."""
    if given is not None:
        if not given.is_file():
            raise SourceMissingError(
                f"no video at {given}", next_step="name a file that is there, or leave --video out"
            )
        return Footage(given, f"{given.name}, as given")
    video = data / "videos" / "vtest.avi"
    if video.is_file():
        return Footage(video, "vtest.avi, a real campus crossing (PETS 2009)")
    from_debian = _from_debian("opencv-doc", "vtest.avi", work)
    if from_debian:
        return Footage(
            from_debian[0], "vtest.avi from Debian's opencv-doc, a real campus crossing (PETS 2009)"
        )
    print_note(
        "no real video is to be had: the demo goes on with a RENDERED scene; its figures say nothing about cameras"
    )
    return Footage(render_scene(work / "rendered.avi"), "a rendered scene, not a real camera", rendered=True)


def find_clips(given: Sequence[Path], *, data: Path, work: Path) -> tuple[list[Clip], str]:
    """Recorded speech, and where it is from: `given`, test clips in `data`, Debian's alsa-utils; else none."""
    if given:
        for path in given:
            if not path.is_file():
                raise SourceMissingError(
                    f"no sound file at {path}", next_step="name one that is there, or leave --audio out"
                )
        return [Clip(path, "") for path in given], "as given"
    folder = data / "speech_commands"
    if (folder / "test.csv").is_file():
        import csv

        first: dict[str, Clip] = {}
        with (folder / "test.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["label"] not in ("silence", "unknown"):
                    first.setdefault(row["label"], Clip(folder / row["file"], row["label"]))
        return [first[label] for label in sorted(first)], "Speech Commands, speakers the model never heard"
    found = _from_debian("alsa-utils", "*_*.wav", work)
    clips = [
        Clip(path, path.stem.split("_")[1].lower()) for path in found if path.stem.endswith(("Left", "Right"))
    ]
    return clips, "recordings of Debian's alsa-utils" if clips else "none to be had"


def _from_debian(package: str, name: str, work: Path) -> list[Path]:
    """Files of a Debian package, fetched and unpacked without installing it; empty where that cannot be done."""
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if not apt or not dpkg:
        return []
    place = work / package
    place.mkdir(parents=True, exist_ok=True)
    try:
        if not list(place.glob("*.deb")):
            subprocess.run(
                [apt, "download", package], cwd=place, check=True, capture_output=True, timeout=APT_TIMEOUT_S
            )
        (archive,) = place.glob("*.deb")
        subprocess.run(
            [dpkg, "-x", archive.name, "files"],
            cwd=place,
            check=True,
            capture_output=True,
            timeout=APT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    for packed in place.rglob(f"{name}.gz"):
        import gzip

        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return sorted(place.rglob(name))


class ColourTeacher:
    """The rendered scene's teacher: finds its figures by the colour of their shirts. Knows nothing about people."""

    path: Path | None = None

    def __call__(self, image: NDArray[np.uint8]) -> Detections:
        import cv2

        near = cv2.inRange(
            image, np.array([b - 45 for b in SHIRT_BGR]), np.array([b + 45 for b in SHIRT_BGR])
        )
        count, _, stats, _ = cv2.connectedComponentsWithStats(near)
        boxes = [
            # the shirt is the middle of a figure three shirts high
            (x, y - 0.6 * h, x + w, y + 2.2 * h)
            for x, y, w, h, area in stats[1:count].astype(float)
            if area > 60
        ]
        xyxy = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, [image.shape[1], image.shape[0]] * 2)
        return Detections(
            xyxy.astype(np.float32), np.full(len(xyxy), 0.9, np.float32), np.zeros(len(xyxy), np.int32)
        )


def render_scene(
    path: Path, *, frames: int = 400, size: tuple[int, int] = (640, 480), fps: float = 10.0
) -> Path:
    """Write a video of drawn figures that walk over a drawn square, the same at every call."""
    import cv2

    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(3)
    ground = cv2.GaussianBlur(rng.integers(90, 160, (height, width, 3)).astype(np.uint8), (0, 0), 9)
    starts, speeds = rng.uniform(0, 2 * width, 7), rng.choice([-1, 1], 7) * rng.uniform(2.5, 6, 7)
    rows, sizes = rng.uniform(0.2, 0.75, 7) * height, rng.uniform(20, 34, 7)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
    if not writer.isOpened():
        raise DataMissingError(f"no video can be rendered to {path}", next_step="give one with --video")
    for number in range(frames):
        image = ground.copy()
        for start, speed, row, shirt in zip(starts, speeds, rows, sizes, strict=True):
            x = int((start + speed * number) % (width + 120)) - 60
            y, h, w = int(row), int(shirt), int(shirt * 0.9)
            cv2.ellipse(image, (x + w // 2, y - h // 4), (h // 4, h // 3), 0, 0, 360, (150, 180, 220), -1)
            cv2.rectangle(image, (x, y), (x + w, y + h), SHIRT_BGR, -1)
            swing = int(6 * np.sin(number * 0.8 + start))
            for leg in (w // 4 - swing, 3 * w // 4 + swing):
                cv2.line(
                    image, (x + w // 2, y + h), (x + leg, y + int(2.1 * h)), (70, 50, 30), max(3, h // 5)
                )
        writer.write(image)
    writer.release()
    return path
