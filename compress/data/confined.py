"""Names that lists and archives hold must lead nowhere but below their folder."""

from __future__ import annotations

from pathlib import Path

MAX_NAME_CHARS = 4096  # what Linux takes as a path


def confined(folder: Path, name: str) -> Path | None:
    """The file `name` below `folder`; None where the name is too long or leads elsewhere."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or len(name) > MAX_NAME_CHARS:
        return None
    return folder / name
