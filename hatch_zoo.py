"""Build hook: puts our data into the wheel under edgeai/_data, and of each zoo model the int8 TFLite only.

The wheel's manifest lists what the wheel holds, so `edgeai bundle verify` is true there too; `edgeai bundle fetch`
brings the rest.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDERS = ("devices/profiles", "firmware_configs")
_TRAINING_ONLY = ("network.keras",)
_BESIDE_MANIFEST = ("card.md", "recipe.toml", "labels.txt")


def trimmed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with no engine file but the int8 TFLite; figures measured on a file left out stay as history."""
    kept = [
        entry
        for entry in manifest["files"]
        if (entry.get("format") is None and entry["path"] not in _TRAINING_ONLY)
        or (entry.get("format"), entry.get("precision")) == ("tflite", "int8")
    ]
    return {**manifest, "files": kept}


def zoo_files(models: Path, written: Path) -> dict[str, str]:
    """{source path: path under models/ in the wheel}; trimmed manifests are written to folder `written`.

    A model without an int8 TFLite is left out. Raises ValueError where a manifest or a file it lists is wrong:
    a wheel must not be built from a broken zoo.
    """
    files: dict[str, str] = {}
    for manifest_path in sorted(models.glob("*/manifest.json")):
        folder = manifest_path.parent
        try:
            manifest = trimmed(json.loads(manifest_path.read_text(encoding="utf-8")))
            paths = [entry["path"] for entry in manifest["files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{manifest_path}: not a manifest: {error!r}") from error
        if not any(entry.get("format") for entry in manifest["files"]):
            continue
        target = written / folder.name / "manifest.json"
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        files[str(target)] = f"{folder.name}/manifest.json"
        extra = [name for name in _BESIDE_MANIFEST if name not in paths and (folder / name).is_file()]
        for path in [*paths, *extra]:
            if not (folder / path).is_file():
                raise ValueError(f"{manifest_path} lists {path}, which is not there")
            files[str(folder / path)] = f"{folder.name}/{path}"
    return files


class ZooHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds to `force_include` when a wheel is built; an editable install reads the checkout itself."""

    PLUGIN_NAME = "custom"
    _written: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            return
        root = Path(self.root)
        self._written = Path(tempfile.mkdtemp(prefix="edgeai-zoo-"))
        include: dict[str, str] = build_data["force_include"]
        for folder in _FOLDERS:
            include[str(root / folder)] = f"edgeai/_data/{folder}"
        for source, target in zoo_files(root / "models", self._written).items():
            include[source] = f"edgeai/_data/models/{target}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._written is not None:
            shutil.rmtree(self._written, ignore_errors=True)
