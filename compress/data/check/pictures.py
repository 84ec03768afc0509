"""One look at a picture's file: is it whole, what does it show, and what identifies it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data.check.boxes import find_box_faults
from compress.data.check.listing import Entry
from compress.data.check.lookalikes import MIN_SPREAD, Look, describe_picture
from compress.data.check.picture_file import Colours, FileFacts, read_facts
from compress.data.check.report import Fault

_Say = Callable[..., None]

MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 150_000_000
# libjpeg paints what is missing in this grey (level shift of T.81, A.3.1); noise and texture never give whole rows of it
_MISSING_GREY = 128
_MIN_GREY_ROWS = 8
# standard deviation in grey levels
FLAT = 1.0


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """digest: SHA-256 of the file. look: see lookalikes, None for a flat picture. size: (width, height) decoded."""

    digest: bytes
    size: tuple[int, int]
    colours: Colours
    orientation: int
    look: Look | None


def look_at_picture(entry: Entry) -> tuple[PictureFacts | None, list[Fault]]:
    """Decode a listed picture once. (None, faults) where nothing can be compared with others."""
    faults: list[Fault] = []

    def say(code: str, detail: str = "") -> None:
        faults.append(Fault(code, entry.split, entry.file, detail))

    if entry.path is None:
        say("bad-entry", "the name leads outside the data folder")
        return None, faults
    data = _read(entry, faults)
    if data is None:
        return None, faults
    facts = read_facts(data)
    if facts.width * facts.height > MAX_PIXELS:
        say(
            "unreadable", f"{facts.width} x {facts.height} are more than {MAX_PIXELS // 10**6} million pixels"
        )
        return None, faults
    picture = _decode(data)
    if picture is None:
        say("truncated" if facts.width and not facts.whole else "unreadable", f"{len(data):,} bytes")
        return None, faults
    height, width = picture.shape[:2]
    if not facts.whole:
        say("truncated", f"{len(data):,} bytes and no end")
    elif data[:2] == b"\xff\xd8" and (rows := _grey_rows(picture)):
        say("grey-bottom", f"{rows} of {height} rows")
    _say_colours(facts, say)
    _say_size(entry, facts, (width, height), say)
    size = (entry.width or width, entry.height or height)
    faults.extend(find_box_faults(entry, size))
    import cv2

    look = describe_picture(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8))
    if look.spread < FLAT:
        say("flat-picture")
    digest = hashlib.sha256(data).digest()
    shown = look if look.spread >= MIN_SPREAD else None
    return PictureFacts(digest, (width, height), facts.colours, facts.orientation, shown), faults


def _read(entry: Entry, faults: list[Fault]) -> bytes | None:
    path = entry.path
    if path is None or not path.is_file():
        faults.append(Fault("absent", entry.split, entry.file))
        return None
    try:
        size = path.stat().st_size
        if 0 < size <= MAX_FILE_BYTES:
            return path.read_bytes()
        why = "0 bytes" if size == 0 else f"{size:,} bytes are more than {MAX_FILE_BYTES >> 20} MiB"
    except OSError as error:
        why = error.strerror or str(error)
    faults.append(Fault("unreadable", entry.split, entry.file, why))
    return None


def _decode(data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) BGR, turned as EXIF says, as training reads it; None where it is no picture."""
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if picture is None else np.asarray(picture, np.uint8)


def _grey_rows(picture: NDArray[np.uint8]) -> int:
    """How many rows at the bottom are the grey of missing data; 0 where the top has them too (a border)."""
    missing = np.all(np.abs(picture.astype(np.int16) - _MISSING_GREY) <= 1, axis=(1, 2)).tolist()
    rows = next((i for i, row in enumerate(reversed(missing)) if not row), 0)
    return rows if rows >= _MIN_GREY_ROWS and not missing[0] else 0


def _say_colours(facts: FileFacts, say: _Say) -> None:
    if facts.colours == "cmyk":
        say("cmyk")
    if facts.alpha:
        say("alpha")
    if facts.bits > 8:
        say("deep-colour", f"{facts.bits} bits")


def _say_size(entry: Entry, facts: FileFacts, size: tuple[int, int], say: _Say) -> None:
    if not entry.width:
        return
    told = (entry.width, entry.height)
    across = facts.orientation >= 5
    if told != size:
        if across and told == size[::-1]:
            say("exif-turned", f"EXIF orientation {facts.orientation}, labelled as {told[0]} x {told[1]}")
        else:
            say("size-differs", f"{size[0]} x {size[1]}, the list tells {told[0]} x {told[1]}")
    elif facts.orientation in (2, 3, 4) or (across and size[0] == size[1]):
        say("exif-orientation", f"EXIF orientation {facts.orientation}")
