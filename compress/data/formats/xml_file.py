"""XML label files, read as they stream by: no entities, no document type, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from edgeai.errors import DataError, DataMissingError

__all__ = ["escape", "quoteattr", "read_xml", "starts_with_element"]

MAX_DEPTH = 30
OnStart = Callable[[Sequence[str], Mapping[str, str]], None]
OnEnd = Callable[[Sequence[str], str], None]


def read_xml(
    path: Path, *, root: str, max_bytes: int, on_start: OnStart | None = None, on_end: OnEnd | None = None
) -> None:
    """Call on_start(tags, attributes) and on_end(tags, text) for each element; tags: from the root to the element.

    text is what stands in an element that has no children. Raises DataMissingError where there is no file, DataError
    where it is no XML of that root, too large, too deep, or declares a document type; and what the two raise.
    """
    tags: list[str] = []
    text: list[str] = []
    called = False  # an error in there is the caller's to word

    def start(tag: str, attributes: dict[str, str]) -> None:
        if not tags and tag != root:
            raise DataError(f"{path} begins with <{tag[:40]}>, not with <{root}>")
        if len(tags) >= MAX_DEPTH:
            raise DataError(f"{path} has elements {MAX_DEPTH} deep")
        tags.append(tag)
        text.clear()
        nonlocal called
        called = True
        if on_start is not None:
            on_start(tags, attributes)
        called = False

    def end(_: str) -> None:
        nonlocal called
        called = True
        if on_end is not None:
            on_end(tags, "".join(text).strip())
        called = False
        tags.pop()
        text.clear()

    def refuse(*_: object) -> NoReturn:
        raise DataError(f"{path} declares a document type, which label files have no need of; it is not read")

    if not path.is_file():
        raise DataMissingError(f"no {path}")
    if path.stat().st_size > max_bytes:
        raise DataError(f"{path} is larger than {max_bytes >> 20} MiB")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if called or isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no XML that can be read: {error}") from None


def starts_with_element(path: Path, root: str) -> bool:
    """Whether an XML file's first element is `root`, by its first 4 KiB. False for what cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    position = head.find(b"<" + root.encode())
    return position >= 0 and head[position + len(root) + 1 : position + len(root) + 2] in (
        b">", b" ", b"/", b"\n", b"\r", b"\t",
    )  # fmt: skip
