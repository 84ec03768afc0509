"""TOML files that become frozen settings: read with a size cap, validated whole, faults with file, line and key."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from edgeai.errors import EdgeError
from edgeai.faults import Fault, describe_faults, dotted
from edgeai.toml_lines import Path as Place
from edgeai.toml_lines import key_lines, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SETTINGS_BYTES = 1 << 20
MAX_FAULTS = 100  # told at once: a file that is something else has thousands
_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")

M = TypeVar("M", bound=BaseModel)


def load_settings(
    path: Path, model: type[M], *, error: type[EdgeError], what: str = "configuration", next_step: str = ""
) -> M:
    """The file as `model`. what: the noun for it in messages; next_step: where there is no such file.

    Raises `error` for anything that is no such file, on one line: file, line, key, what is wrong, the nearest key.
    """
    content = read_settings(path, error=error, what=what, next_step=next_step)
    return parse_settings(content, model, where=str(path), error=error)


def read_settings(
    path: Path, *, error: type[EdgeError], what: str = "configuration", next_step: str = ""
) -> bytes:
    """The file's content. Raises `error` for what is no plain file, cannot be read or is too large."""
    try:
        if not path.is_file():
            problem = "is a folder" if path.is_dir() else "is no plain file"
            raise error(
                f"{path} {problem}, not a {what}" if path.exists() else f"no {what} at {path}",
                next_step=next_step,
            )
        with path.open("rb") as file:
            content = file.read(MAX_SETTINGS_BYTES + 1)
    except (OSError, ValueError) as raised:
        if isinstance(raised, error):
            raise
        raise error(
            f"{path}: the {what} cannot be read: {getattr(raised, 'strerror', None) or raised}"
        ) from None
    if len(content) > MAX_SETTINGS_BYTES:
        raise error(f"{path} is larger than {MAX_SETTINGS_BYTES >> 20} MiB; that is no {what}")
    return content


def parse_settings(content: bytes, model: type[M], *, where: str, error: type[EdgeError]) -> M:
    """TOML as `model`, types taken at their word ("1" and true are no numbers). Raises `error`: the fault that says most."""
    settings, faults = _validated(content, model, where, most=1)
    if settings is None:
        raise error(faults[0].text)
    return settings


def settings_faults(content: bytes, model: type[BaseModel], *, where: str) -> tuple[str, ...]:
    """All that is wrong with a TOML text, a line each as of parse_settings, from its top to its bottom; of more than
    MAX_FAULTS the last line says how many more.

    Not all that could be: text that is no TOML is read to its first fault, and what keys say of each other is looked at
    only where each is right by itself.
    """
    _, faults = _validated(content, model, where, most=MAX_FAULTS)
    return tuple(fault.text for fault in sorted(faults, key=lambda fault: fault.line or sys.maxsize))


class _Fault(NamedTuple):
    """line: from 1, 0 for the whole."""

    line: int
    text: str


def _validated(content: bytes, model: type[M], where: str, *, most: int) -> tuple[M | None, list[_Fault]]:
    """The settings, or why there are none: what says most first, at most so many."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as raised:
        line = content.count(b"\n", 0, raised.start) + 1
        return None, [_Fault(line, f"{where}:{line}: not UTF-8 text ({raised.reason})")]
    try:
        table = tomllib.loads(text)
        nul = [*islice(_paths_with_nul(table), most)]
        if nul:  # no path, host or name can hold one, and the system's calls raise for it
            return None, _placed(
                [Fault(path, f"{dotted(path)}: holds a NUL character") for path in nul], text, where
            )
        # by way of JSON: its strict mode takes a list for a tuple and a string for a path, and nothing else for less
        document = json.dumps(table, default=lambda date: {"date": str(date)})
        return model.model_validate_json(document, strict=True), []
    except ValidationError as raised:
        return None, _placed(describe_faults(raised, model, most=most), text, where)
    except RecursionError:
        return None, [_Fault(0, f"{where}: nested too deeply")]
    except ValueError as raised:  # TOMLDecodeError, and numbers of thousands of digits
        message = str(raised)
        place = _TOML_PLACE.search(message)
        at = f"{where}:{place[1]}" if place else where
        line = int(place[1]) if place else 0
        return None, [_Fault(line, f"{at}: not TOML: {_TOML_PLACE.sub('', message)[:200]}")]


def _placed(faults: Sequence[Fault], text: str, where: str) -> list[_Fault]:
    """Faults with their lines."""
    lines = key_lines(text)
    numbered = [(line_of(lines, fault.path), fault.text) for fault in faults]
    return [
        _Fault(line, f"{where}:{line}: {text}" if line else f"{where}: {text}") for line, text in numbered
    ]


def _paths_with_nul(value: object, path: Place = ()) -> Iterator[Place]:
    if isinstance(value, str) and "\0" in value:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths_with_nul(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths_with_nul(inner, (*path, index))
