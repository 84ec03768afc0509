"""A file that is either whole or told to be broken: a line of facts, then bytes whose SHA-256 the facts give."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeai.types import JsonValue

_MAGIC = b"edgeai sealed 1\n"
_MAX_FACTS_BYTES = 1 << 16
PART_SUFFIX = ".part"


class BrokenSealError(ValueError):
    """The file is there and not what was written."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """facts: as written. content: checked against its hash."""

    facts: dict[str, JsonValue]
    content: bytes


def write_sealed(path: Path, content: bytes, facts: Mapping[str, JsonValue]) -> None:
    """Put the file in place in one step, on the disk before its name is. Raises OSError; then nothing is left behind."""
    head = json.dumps({**facts, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=PART_SUFFIX, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(_MAGIC + head.encode() + b"\n")
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_sealed(path: Path) -> Sealed:
    """Raises FileNotFoundError, another OSError, or BrokenSealError with what is wrong."""
    with path.open("rb") as file:
        facts = _facts(file.read(len(_MAGIC)), file.readline(_MAX_FACTS_BYTES))
        content = file.read()
    if len(content) != facts.get("bytes"):
        raise BrokenSealError(f"{len(content)} of {facts.get('bytes')} bytes")
    if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise BrokenSealError("its bytes were changed")
    return Sealed(facts, content)


def read_facts(path: Path) -> dict[str, JsonValue]:
    """The facts alone; the content is not looked at. Raises as read_sealed."""
    with path.open("rb") as file:
        return _facts(file.read(len(_MAGIC)), file.readline(_MAX_FACTS_BYTES))


def _facts(magic: bytes, line: bytes) -> dict[str, JsonValue]:
    try:
        facts = json.loads(line)
    except ValueError:
        facts = None
    if magic != _MAGIC or not isinstance(facts, dict):
        raise BrokenSealError("its beginning was changed")
    return facts
