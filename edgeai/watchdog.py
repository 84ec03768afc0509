"""Sees what hangs, has it replaced, and ends the process where that does not help."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
import types
from collections.abc import Callable, Iterable
from typing import IO, Any, Final, Generic, NoReturn, Protocol, TypeVar

from edgeai.config import WatchdogSettings
from edgeai.errors import EdgeError
from edgeai.pulse import Doing, Pulse

log = logging.getLogger("edgeai")

EXIT_STUCK: Final = 70
"""EX_SOFTWARE of sysexits.h: what a process that is stuck ends itself with, so that its service manager starts it again."""
POLL_S: Final = 0.25
LOCKED_S: Final = 5.0
"""How long no thread of Python may run at all: no code that is in order keeps the interpreter's lock for so long."""
_LAST_WORDS_S: Final = 1.0


class Watched(Protocol):
    """What may hang, and can be replaced. label: for messages."""

    label: str

    @property
    def pulse(self) -> Pulse: ...

    def replace(self, doing: Doing) -> None:
        """Leave behind what hangs in `doing`, and have another work on; nothing where it came back meanwhile.

        Called by the watchdog's thread. Raises EdgeError where there can be no other.
        """


W = TypeVar("W", bound=Watched)


class Watchdog(Generic[W]):
    """A thread that looks at every pulse, and whether the main loop beats; `with` starts it.

    What hangs is replaced; the one after settings.replacements of them ends the process, as does a main loop that has not
    beaten for settings.stuck_s. Where no thread of Python runs at all, because native code keeps the interpreter's lock, the
    alarm of `faulthandler`, a thread that needs no lock, ends the process after LOCKED_S; so it does where the process as a
    whole was stopped by a signal for so long. Ending is at once, without waiting for any thread: the outbox is durable at every
    moment.

    watched: asked at every look. replaced: told afterwards, with how many there are now; from the watchdog's thread. alive: called at
    every look while nothing hangs, as a service manager's own watchdog wants it. end: given the exit code, ends the process.
    """

    def __init__(
        self,
        settings: WatchdogSettings,
        *,
        watched: Callable[[], Iterable[W]],
        replaced: Callable[[W, Doing, float, int], None] = lambda watched, doing, hung_s, count: None,
        alive: Callable[[], None] = lambda: None,
        end: Callable[[int], Any] | None = None,
    ) -> None:
        self.replacements = 0
        self._settings = settings
        self._watched = watched
        self._replaced = replaced
        self._alive = alive
        self._end = end or _end_now
        self._beat_due_s = time.monotonic() + settings.stuck_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._alarm: IO[str] | None = None

    def beat(self, grace_s: float = 0.0) -> None:
        """The main loop goes on; called by it many times within stuck_s, and with grace_s before it does what takes longer."""
        self._beat_due_s = time.monotonic() + self._settings.stuck_s + grace_s

    def __enter__(self) -> Watchdog[W]:
        if self._settings.enabled:
            # a file of its own: standard error may be closed or replaced by then
            with contextlib.suppress(OSError, ValueError):
                self._alarm = os.fdopen(os.dup(2), "w")
            self._arm()
            self.beat()
            self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)
            self._thread = None
        if self._alarm is not None:
            faulthandler.cancel_dump_traceback_later()
            self._alarm.close()
            self._alarm = None

    def _arm(self) -> None:
        """Put the alarm off: it rings where this is not called again within LOCKED_S."""
        if self._alarm is not None:
            faulthandler.dump_traceback_later(LOCKED_S, exit=True, file=self._alarm)

    def _look(self) -> None:
        looked_s = time.monotonic()
        while not self._stop.wait(POLL_S):
            self._arm()
            now_s = time.monotonic()
            late_s, looked_s = now_s - looked_s - POLL_S, now_s
            if late_s > POLL_S:
                # the whole process stood still, by a signal or a busy machine: what it was in the middle of goes on now
                self._beat_due_s += late_s
                continue
            if self._judge(now_s):
                self._alive()

    def _judge(self, now_s: float) -> bool:
        """Whether all is well; else what can be done about it is done."""
        if now_s >= self._beat_due_s:
            self._give_up(f"the main loop has stood still for over {self._settings.stuck_s:g} s")
            return False
        well = True
        for each in self._watched():
            doing = each.pulse.hung(now_s)
            if doing is not None:
                well = False
                self._replace(each, doing, now_s)
        return well

    def _replace(self, each: W, doing: Doing, now_s: float) -> None:
        hung_s = now_s - doing.since_s
        if self.replacements >= self._settings.replacements:
            self._give_up(
                f"{each.label} hangs in {doing.what} for {hung_s:.1f} s, after {self.replacements} that were replaced"
            )
            return
        self.replacements += 1
        log.error("%s hangs in %s for %.1f s: replaced", each.label, doing.what, hung_s)
        try:
            each.replace(doing)
        except EdgeError as error:
            log.error("%s cannot be replaced: %s", each.label, error)
        except Exception:
            log.exception("%s cannot be replaced, by a fault of the program", each.label)
        self._replaced(each, doing, hung_s, self.replacements)

    def _give_up(self, why: str) -> None:
        """Say why, and end; a log that hangs holds nothing up."""

        def tell() -> None:
            log.critical("the process ends itself and should be started again: %s", why)
            if self._alarm is not None:
                faulthandler.dump_traceback(self._alarm)

        last_words = threading.Thread(target=tell, name="last words", daemon=True)
        last_words.start()
        last_words.join(_LAST_WORDS_S)
        self._end(EXIT_STUCK)


def _end_now(code: int) -> NoReturn:
    os._exit(code)
