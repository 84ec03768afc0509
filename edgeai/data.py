"""Where the data folders are: models/, firmware_configs/, devices/profiles/, in a wheel and in a checkout alike."""

from __future__ import annotations

from pathlib import Path

from edgeai.errors import DataMissingError

_PACKAGE = Path(__file__).resolve().parent


def data_root(package: Path = _PACKAGE) -> Path:
    """The folder that holds `models`, `firmware_configs` and `devices`: edgeai/_data, else the repository's root."""
    in_wheel = package / "_data"
    return in_wheel if in_wheel.is_dir() else package.parent


def find_data(*parts: str) -> Path:
    """The path of a file or folder of ours: parts are names below the data root ("devices", "profiles").

    Raises DataMissingError where there is none, and for parts that lead out of the data root.
    """
    root = data_root()
    path = root.joinpath(*parts)
    inside = path.is_relative_to(root) and ".." not in path.parts and "\0" not in str(path)
    if not inside or not path.exists():
        raise DataMissingError(
            f"no {'/'.join(parts)} in this installation ({path})",
            next_step="reinstall with `pip install --force-reinstall edgeai`, or work in a checkout",
        )
    return path
