"""PyGObject, which belongs to the system's Python: found from an environment of its own too."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from edgeai.errors import SourceError

# Debian and Ubuntu keep what they built for their own Python here; of it only `gi` is taken, nothing else gets on the path
SYSTEM_PACKAGES: Final = Path("/usr/lib/python3/dist-packages")
_INSTALL: Final = (
    "`sudo apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav`"
)
_lock = threading.Lock()
_loaded: list[Gst] = []


@dataclass(frozen=True, slots=True)
class Gst:
    """The typelibs: Gst itself, and video's, for the strides of pictures."""

    core: Any
    video: Any


def load_gst() -> Gst:
    """GStreamer 1, initialised once. Raises SourceError with the line that installs what is missing.

    The first call looks at every plugin where GStreamer cannot keep its list of them (GST_REGISTRY): some seconds on a board.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def _load() -> Gst:
    try:
        gi = import_gi()
        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        # GstApp's methods are found on its elements once it is loaded
        core, _, video = (
            importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GstApp", "GstVideo")
        )
        core.init(None)
    except (ImportError, ValueError) as error:  # ValueError: a typelib that is not installed
        why = " ".join(str(error).split())
        raise SourceError(f"GStreamer cannot be used: {why}", next_step=_INSTALL) from None
    except Exception as error:  # GLib's own, of a kind that is only known with GLib
        raise SourceError(f"GStreamer does not start: {' '.join(str(error).split())}") from None
    return Gst(core, video)


def import_gi(packages: Path = SYSTEM_PACKAGES) -> Any:
    """PyGObject of this environment, else of `packages` where it was built for this version of Python. Raises ImportError."""
    try:
        return importlib.import_module("gi")
    except ModuleNotFoundError as error:
        if error.name != "gi":
            raise
    folder = packages / "gi"
    if not (folder / "__init__.py").is_file():
        raise ImportError("there is no PyGObject (python3-gi)")
    if not any((folder / f"_gi{suffix}").is_file() for suffix in importlib.machinery.EXTENSION_SUFFIXES):
        raise ImportError(
            f"python3-gi is for the system's own Python, this is {sys.version_info[0]}.{sys.version_info[1]}: "
            "make the environment with /usr/bin/python3, or install edgeai[gstreamer]"
        )
    return _imported(folder)


def _imported(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "gi", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gi"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        # half of it must not be found by the next attempt
        for name in [name for name in sys.modules if name == "gi" or name.startswith("gi.")]:
            del sys.modules[name]
        raise
    return module
