"""Whether this Python can use GStreamer: python3-gi belongs to the system's version of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rtsp_server import SYSTEM_PYTHON

from edgeai.errors import SourceError
from edgeai.sources.gstreamer.bindings import load_gst


def require_gstreamer() -> None:
    """Skips the test where it cannot; fails it where CI says that everything must be there, unless this Python is another."""
    try:
        load_gst()
    except SourceError as error:
        if os.environ.get("EDGEAI_REQUIRE_DATA") == "1" and _is_the_systems_version():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def _is_the_systems_version() -> bool:
    program = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.split() == [str(part) for part in sys.version_info[:2]]
