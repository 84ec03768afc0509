"""What a picture's file says of itself, without decoding: size, colours, orientation, and whether it is whole.

OpenCV decodes a JPEG that was cut off without a word and paints the rest grey, so the markers are walked here
(ITU-T T.81, annex B; orientation: Exif 2.32, 4.6.5.1).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

Colours = Literal["grey", "colour", "cmyk", ""]

_PNG = b"\x89PNG\r\n\x1a\n"
# the next marker in entropy-coded data: not a stuffed zero, a restart marker or fill
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_GREY_PNG, _GREY_ALPHA_PNG, _ALPHA_PNG = 0, 4, 6


@dataclass(frozen=True, slots=True)
class FileFacts:
    """width, height: of the stored pixels, 0 where not known. orientation: EXIF, 1 to 8, 1 is upright.

    whole: False where the file ends before its picture does. bits: of a channel.
    """

    width: int = 0
    height: int = 0
    colours: Colours = ""
    alpha: bool = False
    bits: int = 8
    orientation: int = 1
    whole: bool = True


def read_facts(data: bytes) -> FileFacts:
    """Facts of a JPEG, PNG, BMP or WebP; nothing but defaults for other content. Never raises on any bytes."""
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == _PNG:
        return _png(data)
    if data[:2] == b"BM" and len(data) >= 26:
        size, width, height = (*struct.unpack_from("<I", data, 2), *struct.unpack_from("<ii", data, 18))
        return FileFacts(abs(width), abs(height), whole=size <= len(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return FileFacts(whole=struct.unpack_from("<I", data, 4)[0] + 8 <= len(data))
    return FileFacts()


def _png(data: bytes) -> FileFacts:
    if len(data) < 33 or data[12:16] != b"IHDR":
        return FileFacts(whole=False)
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    return FileFacts(
        width,
        height,
        "grey" if kind in (_GREY_PNG, _GREY_ALPHA_PNG) else "colour",
        kind in (_GREY_ALPHA_PNG, _ALPHA_PNG),
        bits,
        whole=b"IEND" in data[-64:] or b"IEND\xaeB`\x82" in data,
    )


def _jpeg(data: bytes) -> FileFacts:
    width = height = 0
    colours: Colours = ""
    bits, orientation, at, whole = 8, 1, 2, False
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            break  # not where a marker belongs: the decoder will say
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:
            whole = True
            break
        if marker in _ALONE:
            at += 2
            continue
        if at + 4 > len(data):
            break
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if marker in _SOF and len(body) >= 6:
            bits, height, width, parts = struct.unpack_from(">BHHB", body)
            colours = "grey" if parts == 1 else "cmyk" if parts == 4 else "colour"
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = _orientation(body[6:])
        at += 2 + length
        if marker == 0xDA:
            found = _MARKER.search(data, at)
            if found is None:
                break
            at = found.start()
    return FileFacts(width, height, colours, False, bits, orientation, whole)


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    start = struct.unpack_from(f"{order}I", tiff, 4)[0]
    if start + 2 > len(tiff):
        return 1
    for number in range(struct.unpack_from(f"{order}H", tiff, start)[0]):
        at = start + 2 + 12 * number
        if at + 12 > len(tiff):
            break
        tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
        if tag == 0x0112 and kind == 3:
            value = int(struct.unpack_from(f"{order}H", tiff, at + 8)[0])
            return value if 1 <= value <= 8 else 1
    return 1
