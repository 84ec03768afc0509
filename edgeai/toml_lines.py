"""Where each key of a TOML document stands: what tomllib does not tell, and an error message needs."""

from __future__ import annotations

import contextlib
import re
from typing import TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"
"""Keys and list indices (from 0) from the document's root, as in ("cameras", 0, "rules", 1, "name")."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)


def key_lines(text: str) -> dict[Path, int]:
    r"""The line, from 1, of every key, table header and list element of a document that tomllib has accepted.

    A table that is opened several times has its first line. For any other text the answer is partial, never an
    error.

    >>> key_lines('a = 1\n[[b]]\nc = {d = 2}')[("b", 0, "c", "d")]
    3
    """
    scanner = _Scanner(text)
    with contextlib.suppress(_UnreadableError, RecursionError):
        scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of `path`, or of the nearest table around it that has one; 0 where none has."""
    return next((lines[path[:size]] for size in range(len(path), 0, -1) if path[:size] in lines), 0)


class _UnreadableError(Exception):
    """The text is no TOML after all."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)  # a position and its line; positions only grow
        self._last: dict[Path, int] = {}  # lists of tables: the index of the newest
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_GAP)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[[", self._at):
                table = self._header("[[", "]]")
            elif self._text.startswith("[", self._at):
                table = self._header("[", "]")
            else:
                self._pair(table)

    def _header(self, opening: str, closing: str) -> Path:
        line = self._line()
        self._at += len(opening)
        names = self._keys()
        self._take(closing)
        path: Path = ()
        for number, name in enumerate(names):
            path = (*path, name)
            self.lines.setdefault(path, line)
            is_new = opening == "[[" and number == len(names) - 1
            if is_new:
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self.lines.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for name in self._keys():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._take("=")
        self._value(path)

    def _keys(self) -> list[str]:
        """A dotted key."""
        names = []
        while True:
            self._skip(_BLANK)
            if self._text.startswith(('"', "'"), self._at):
                names.append(self._string()[1:-1])  # escapes in keys stay as they are: their lines are lost
            else:
                names.append(self._match(_BARE))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        sign = self._text[self._at : self._at + 1]
        if sign == "[":
            self._items("]", path)
        elif sign == "{":
            self._items("}", path)
        elif sign and sign in "\"'":
            self._string()
        else:
            self._match(_SCALAR)

    def _items(self, closing: str, path: Path) -> None:
        """The elements of a list or an inline table, from its bracket to the other."""
        self._at += 1
        index = 0
        while True:
            self._skip(_GAP)
            if self._text.startswith(closing, self._at):
                self._at += 1
                return
            if closing == "}":
                self._pair(path)
            else:
                self.lines.setdefault((*path, index), self._line())
                self._value((*path, index))
            index += 1
            self._skip(_GAP)
            if not self._text.startswith(closing, self._at):
                self._take(",")

    def _string(self) -> str:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found:
                self._at = found.end()
                return found[0]
        raise _UnreadableError

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found or not found[0]:
            raise _UnreadableError
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _take(self, sign: str) -> None:
        self._skip(_BLANK)
        if not self._text.startswith(sign, self._at):
            raise _UnreadableError
        self._at += len(sign)

    def _line(self) -> int:
        at, line = self._counted
        self._counted = (self._at, line + self._text.count("\n", at, self._at))
        return self._counted[1]
