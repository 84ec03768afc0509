"""PyGObject, which belongs to the system's Python: found from an environment of its own too."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeai.errors import SourceError

# Debian and Ubuntu keep what they built for their own Python here; of it only `gi` is taken, nothing else gets on the path
_SYSTEM: Final = Path("/usr/lib/python3/dist-packages")
_INSTALL: Final = (
    "`sudo apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad`, and a Python of the system's version"
)
_lock = threading.Lock()
_loaded: list[Gst] = []


@dataclass(frozen=True, slots=True)
class Gst:
    """The typelibs: Gst itself, its appsink, its video formats."""

    core: Any
    app: Any
    video: Any


def load_gst() -> Gst:
    """GStreamer 1, initialised once. Raises SourceError with the line that installs what is missing."""
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def _load() -> Gst:
    try:
        gi = _import_gi()
        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        core, app, video = (
            importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GstApp", "GstVideo")
        )
        core.init(None)
    except (ImportError, ValueError) as error:  # ValueError: a typelib that is not installed
        raise SourceError(
            f"GStreamer cannot be used: {' '.join(str(error).split())}", next_step=_INSTALL
        ) from None
    return Gst(core, app, video)


def _import_gi() -> Any:
    try:
        return importlib.import_module("gi")
    except ImportError:
        folder = _SYSTEM / "gi"
        spec = importlib.util.spec_from_file_location(
            "gi", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if not folder.is_dir() or spec is None or spec.loader is None:
            raise
        module: types.ModuleType = importlib.util.module_from_spec(spec)
        sys.modules["gi"] = module
        try:
            spec.loader.exec_module(module)  # fails where it was built for another version of Python
        except BaseException:
            sys.modules.pop("gi", None)
            raise
        return module
