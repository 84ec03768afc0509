"""The parts of a multipart stream (RFC 2046, 5.1) as cameras send them, which is not always as they say."""

from __future__ import annotations

import re
from typing import Final

from edgeai.errors import SourceError

MAX_PART_BYTES: Final = 32 << 20
_MAX_HEAD_BYTES: Final = 16384
_LENGTH: Final = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,12})[ \t]*$", re.IGNORECASE | re.MULTILINE)
_HEAD_END: Final = re.compile(rb"\r?\n[ \t]*\r?\n")
_LINE_END: Final = re.compile(rb"\r?\n")


class MultipartReader:
    """Bytes in, bodies of parts out; does no reading itself.

    boundary: as the Content-Type gives it, "" where it gives none: then the first line of the stream is it. Leading dashes
    count on neither side, lines end with CRLF or LF, and parts may or may not tell their length; one that tells a wrong
    length spoils its neighbour and nothing else. Raises SourceError for a part or a head longer than any camera's.
    """

    def __init__(self, boundary: str, *, max_part_bytes: int = MAX_PART_BYTES) -> None:
        self._mark = boundary.strip().strip('"').lstrip("-").encode("latin-1", "replace")
        self._max_bytes = max_part_bytes
        self._held = bytearray()
        self._searched = 0  # bytes of what is held that are known to hold no mark
        self._state = "mark"
        self._length: int | None = None
        self.ended = False

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete with these bytes."""
        self._held += data
        bodies: list[bytes] = []
        while not self.ended:
            if self._state == "mark":
                went_on = self._pass_mark()
            elif self._state == "head":
                went_on = self._pass_head()
            else:
                body = self._take_body()
                went_on = body is not None
                if body:
                    bodies.append(body)
            if not went_on:
                break
        return bodies

    def _pass_mark(self) -> bool:
        if not self._mark and not self._learn_mark():
            return False
        found = self._find_mark()
        if found is None:
            # what lies between parts is skipped; enough is kept for a mark that has come in half
            keep = len(self._mark) + 80
            if len(self._held) > keep:
                del self._held[:-keep]
            self._searched = 0
            return False
        _, end = found
        line_end = _LINE_END.search(self._held, end)
        if line_end is None:
            self._check_head(end)
            return False
        self.ended = bytes(self._held[end : line_end.start()]).strip() == b"--"
        # the line's end stays: a part without any header has an empty line right after it
        del self._held[: line_end.start()]
        self._state = "head"
        return True

    def _learn_mark(self) -> bool:
        line = re.search(rb"-*([^\r\n-][^\r\n]*)\r?\n", self._held)
        if line is None:
            self._check_head(0)
            return False
        self._mark = bytes(line[1]).strip()
        return True

    def _pass_head(self) -> bool:
        end = _HEAD_END.search(self._held)
        if end is None or end.start() > _MAX_HEAD_BYTES:
            self._check_head(0)
            return False
        length = _LENGTH.search(bytes(self._held[: end.start()]).replace(b"\r", b""))
        self._length = int(length[1]) if length else None
        if self._length is not None and self._length > self._max_bytes:
            raise SourceError(f"it announces a part of {self._length} bytes, which no picture has")
        del self._held[: end.end()]
        self._state, self._searched = "body", 0
        return True

    def _take_body(self) -> bytes | None:
        if self._length:
            if len(self._held) < self._length:
                return None
            body = bytes(self._held[: self._length])
            del self._held[: self._length]
            # the mark is looked for at the beginning of a line
            if not self._held.startswith((b"\r", b"\n")):
                self._held[:0] = b"\n"
        else:
            found = self._find_mark()
            if found is None:
                if len(self._held) > self._max_bytes:
                    raise SourceError(f"it sent a part of over {self._max_bytes} bytes, which no picture has")
                self._searched = max(0, len(self._held) - len(self._mark) - 80)
                return None
            body = bytes(self._held[: found[0]])
            del self._held[: found[0]]
        self._state, self._searched = "mark", 0
        return body

    def _find_mark(self) -> tuple[int, int] | None:
        """Where the next line that is a mark begins, its line break included, and where the mark ends."""
        begin = self._searched
        while (at := self._held.find(self._mark, begin)) >= 0:
            start = at
            while start > 0 and self._held[start - 1] == 0x2D and at - start < 70:
                start -= 1
            if start == 0:
                return 0, at + len(self._mark)
            if self._held[start - 1] == 0x0A:
                start -= 1
                if start > 0 and self._held[start - 1] == 0x0D:
                    start -= 1
                return start, at + len(self._mark)
            begin = at + 1
        return None

    def _check_head(self, begin: int) -> None:
        if len(self._held) - begin > _MAX_HEAD_BYTES:
            raise SourceError(f"a part's header is over {_MAX_HEAD_BYTES} bytes")
