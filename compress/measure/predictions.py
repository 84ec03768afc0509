"""What a model said about each example, as JSON lines."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from compress.measure.scored import Scored
from edgeai.errors import EdgeError


def write_predictions(scored: Scored, path: Path) -> Path:
    """One JSON object a line, one line an example; an older file stays as it was where this one cannot be written.

    Raises EdgeError.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for row in scored.predictions():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise EdgeError(f"the predictions {path} cannot be written: {error.strerror or error}") from error
    return path
