"""What a model said about each example, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from compress.measure.scored import Scored
from edgeai.whole_file import whole_file


def write_predictions(scored: Scored, path: Path) -> Path:
    """One JSON object a line, one line an example; an older file stays as it was where this one cannot be written.

    Raises DataError.
    """
    with (
        whole_file(path, what="the predictions") as part,
        part.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for row in scored.predictions():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path
