"""`edgeai run`, but a file named `wedge` in its folder makes it hang once: run, lock or main, as the file says.

run: a call of an engine sleeps; lock: it sleeps and keeps the interpreter's lock; main: the main loop stands still.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time
from pathlib import Path

from edgeai.cli import main
from edgeai.engines.edges import EdgeEngine
from edgeai.runtime import Runtime

WEDGE = Path("wedge")
HANG_S = 600


def wedged(*kinds: str) -> str:
    """What to do, once."""
    with contextlib.suppress(OSError):
        kind = WEDGE.read_text()
        if kind in kinds:
            WEDGE.unlink()
            return kind
    return ""


def run(self, inputs, run=EdgeEngine.run):
    kind = wedged("run", "lock")
    if kind == "run":
        time.sleep(HANG_S)
    if kind == "lock":
        ctypes.PyDLL(None).sleep(HANG_S)
    return run(self, inputs)


def do_chores(self, do_chores=Runtime._do_chores):
    if wedged("main"):
        time.sleep(HANG_S)
    do_chores(self)


EdgeEngine.run = run
Runtime._do_chores = do_chores

if __name__ == "__main__":
    sys.exit(main())
