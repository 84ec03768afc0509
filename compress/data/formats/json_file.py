"""Long JSON files, one item at a time: the lists of a label file are never in memory whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from compress.data.formats.places import long_bar
from edgeai.errors import DataError, DataMissingError

MAX_JSON_BYTES = 4 << 30
MAX_ITEM_CHARS = 64 << 20
_CHUNK_CHARS = 1 << 18
_LONG_BYTES = 20 << 20
_AFTER_VALUE = frozenset(",]}: \t\r\n")
_WHITE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


def read_items(path: Path, keys: Collection[str] = ()) -> Iterator[tuple[str, Any]]:
    """The items of a JSON file's lists, as (key, item), in the order of the file.

    An object at the top: items of its lists that are named in `keys`; a list at the top: its items, with the key "".
    No `keys` says that a list is wanted. Memory is that of the longest item.

    Raises DataMissingError where there is no file, DataError where it is no such JSON, over 4 GiB, or holds an item of
    over 64 Mi characters.
    """
    if not path.is_file():
        raise DataMissingError(f"no {path}")
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise DataError(f"{path} is larger than {MAX_JSON_BYTES >> 30} GiB")
    with (
        path.open(encoding="utf-8-sig", newline="") as file,
        long_bar(f"labels of {path.name}", size, least=_LONG_BYTES) as advance,
    ):
        text = _Window(file, advance)
        try:
            yield from _items(text, keys)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} is no JSON: {error.msg} at character {text.before + error.pos}"
            ) from None
        except (_WrongShapeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path} is no JSON that can be used: {error}") from None


class _WrongShapeError(Exception):
    """What does not fit, in words; read_items puts the file's name before it."""


def _items(text: _Window, keys: Collection[str]) -> Iterator[tuple[str, Any]]:
    top = text.peek()
    if top != ("{" if keys else "["):
        raise _WrongShapeError(f"the top level must be {'an object' if keys else 'a list'}")
    if not keys:
        yield from (("", item) for item in _list(text))
    else:
        text.take("{")
        while text.peek() != "}":
            key = text.value() if text.peek() == '"' else text.take('"')
            text.take(":")
            if text.peek() == "[":
                for item in _list(text):
                    if key in keys:
                        yield key, item
            elif key in keys:
                raise _WrongShapeError(f"{key!r} must be a list")
            else:
                text.value()
            if text.peek() != "}":
                text.take(",")
        text.take("}")
    if text.peek():
        raise _WrongShapeError("something follows its end")


def _list(text: _Window) -> Iterator[Any]:
    text.take("[")
    while text.peek() != "]":
        yield text.value()
        if text.peek() != "]":
            text.take(",")
    text.take("]")


class _Window:
    """The part of a text file that is being decoded. before: how many characters came earlier."""

    def __init__(self, file: TextIO, advance: Callable[[int], object]) -> None:
        self._file = file
        self._advance = advance
        self._text = ""
        self._at = 0
        self._ended = False
        self.before = 0

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        if self._at < len(self._text) and self._text[self._at] > " ":
            return self._text[self._at]
        while True:
            self._at = _WHITE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def take(self, expected: str) -> str:
        found = self.peek()
        if found != expected:
            raise _WrongShapeError(
                f"{expected} was expected and {found or 'the end'} found at character {self.before + self._at}"
            )
        self._at += 1
        return found

    def value(self) -> Any:
        """Decode one value of any kind."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError:  # wrong, or not there yet
                if self._ended:
                    raise
            except ValueError as error:  # a number of too many digits
                raise _WrongShapeError(str(error)) from None
            else:
                # a number may go on in the next chunk, and 1.0e would be read as 1.0
                if self._ended or self._text[end : end + 1] in _AFTER_VALUE:
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_ITEM_CHARS:
                raise _WrongShapeError(
                    f"an item at character {self.before + self._at} is broken, or over {MAX_ITEM_CHARS >> 20} Mi characters"
                )
            self._more()

    def _more(self) -> None:
        """Read on; twice as much as is left over, so that a long item is not decoded again and again."""
        left = len(self._text) - self._at
        chunk = self._file.read(max(_CHUNK_CHARS, left))
        self._ended = not chunk
        self._advance(len(chunk))
        self.before += self._at
        self._text = self._text[self._at :] + chunk
        self._at = 0
