"""How large a JPEG says it is, before anybody makes room for it (ITU-T T.81, B.2.2)."""

from __future__ import annotations

from edgeai.errors import SourceFormatError

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame; the three are tables
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels. Raises SourceFormatError for what is no JPEG or names no size."""
    if not data.startswith(b"\xff\xd8"):
        raise SourceFormatError("it is no JPEG")
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES and at + 9 <= len(data):
            height, width = (
                int.from_bytes(data[at + 5 : at + 7], "big"),
                int.from_bytes(data[at + 7 : at + 9], "big"),
            )
            if width and height:
                return width, height
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise SourceFormatError("it is a JPEG without a size")
