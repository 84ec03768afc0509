"""A live camera without hardware: what an address of kind "csi" opens in tests that put it into the table of sources."""

from __future__ import annotations

import threading

import numpy as np

from edgeai.errors import SourceError, SourceMissingError
from edgeai.sources.source import Source
from edgeai.types import Frame


class LiveCamera(Source[Frame]):
    """frames: pictures that it gives, over and over. every_s: between two. hangs: after so many frames a read does not come
    back until `cancel`. missing: what opening raises. fails: after so many frames reading raises.
    """

    live = True

    def __init__(self, frames, *, every_s=0.02, hangs=None, missing="", fails=None):
        self._frames = frames
        self._every_s = every_s
        self._hangs = hangs
        self._fails = fails
        self._missing = missing
        self._closing = threading.Event()
        self.closed = 0

    def open(self):
        if self._missing:
            raise SourceMissingError(self._missing)
        self._closing.clear()

    def cancel(self):
        self._closing.set()

    def close(self):
        self.closed += 1

    def __iter__(self):
        count = 0
        while True:
            if count == self._hangs:
                self._closing.wait()
                raise SourceError("the read was cancelled")
            if count == self._fails:
                raise SourceError("the cable was pulled")
            if self._closing.wait(self._every_s):
                return
            yield Frame(self._frames[count % len(self._frames)], count, count * self._every_s, "x")
            count += 1


def scene(width=160, height=120, seed=0):
    """A picture with something on it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
