"""TOML files that become frozen settings: read with a size cap, validated whole, faults with file, line and key."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edgeai.errors import EdgeError
from edgeai.faults import describe_fault
from edgeai.toml_lines import Path as Place
from edgeai.toml_lines import key_lines, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_SETTINGS_BYTES = 1 << 20
_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")

M = TypeVar("M", bound=BaseModel)


def load_settings(
    path: Path, model: type[M], *, error: type[EdgeError], what: str = "configuration", next_step: str = ""
) -> M:
    """The file as `model`. what: the noun for it in messages; next_step: where there is no such file.

    Raises `error` for anything that is no such file, on one line: file, line, key, what is wrong, the nearest key.
    """
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
    return parse_settings(content, model, where=str(path), error=error)


def parse_settings(content: bytes, model: type[M], *, where: str, error: type[EdgeError]) -> M:
    """TOML as `model`, types taken at their word ("1" and true are no numbers). Raises `error`."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as raised:
        line = content.count(b"\n", 0, raised.start) + 1
        raise error(f"{where}:{line}: not UTF-8 text ({raised.reason})") from None
    try:
        table = tomllib.loads(text)
        nul = next(_paths_with_nul(table), None)
        if nul is not None:  # no path, host or name can hold one, and the system's calls raise for it
            line = line_of(key_lines(text), nul)
            raise error(f"{where}:{line}: {'.'.join(map(str, nul))}: holds a NUL character")
        # by way of JSON: its strict mode takes a list for a tuple and a string for a path, and nothing else for less
        document = json.dumps(table, default=lambda date: {"date": str(date)})
        return model.model_validate_json(document, strict=True)
    except ValidationError as raised:
        faults = raised.errors(include_url=False)
        # a mistyped key is also a missing one: the typing error says more
        unknown = (each for each in faults if each["type"] == "extra_forbidden")
        fault = describe_fault(next(unknown, faults[0]), model)
        line = line_of(key_lines(text), fault.path)
        raise error(f"{where}:{line}: {fault.text}" if line else f"{where}: {fault.text}") from None
    except EdgeError:
        raise
    except RecursionError:
        raise error(f"{where}: nested too deeply") from None
    except ValueError as raised:  # TOMLDecodeError, and numbers of thousands of digits
        message = str(raised)
        place = _TOML_PLACE.search(message)
        at = f"{where}:{place[1]}" if place else where
        raise error(f"{at}: not TOML: {_TOML_PLACE.sub('', message)[:200]}") from None


def _paths_with_nul(value: object, path: Place = ()) -> Iterator[Place]:
    if isinstance(value, str) and "\0" in value:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths_with_nul(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths_with_nul(inner, (*path, index))
