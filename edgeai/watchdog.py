"""Sees what hangs, has it replaced, and ends the process where that does not help."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

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
_STANDSTILLS: Final = 64


class Watched(Protocol):
    """What may hang, and can be replaced. label: for messages."""

    label: str

    @property
    def pulse(self) -> Pulse: ...

    def replace(self, doing: Doing) -> None:
        """Leave behind what hangs in `doing`, and have another work on; nothing where it came back meanwhile.

        Called by a thread of the watchdog's, which it may hold up. Raises EdgeError where there can be no other.
        """


W = TypeVar("W", bound=Watched)


class Watchdog(Generic[W]):
    """A thread that looks at every pulse, and whether the main loop beats; `with` starts it.

    What hangs is replaced, each call once. The process ends with EXIT_STUCK
    - instead of the replacement after settings.replacements: each leaves a thread and its memory behind for as long as the
      process lives, so they are counted for as long;
    - where something hangs on for settings.stuck_s after it was to be replaced;
    - where the main loop has not beaten for settings.stuck_s.
    Where no thread of Python runs at all for LOCKED_S, because native code keeps the interpreter's lock, the alarm of
    `faulthandler`, a thread that needs no lock, ends the process with exit code 1. Ending is at once, without waiting for
    any thread: what is to outlive it is on the disk at every moment.

    Time in which the process as a whole stood still is nobody's: a machine that sleeps, one that is overloaded, and up to
    LOCKED_S of SIGSTOP. The alarm cannot tell a longer SIGSTOP from a kept lock: it rings at SIGCONT.

    watched: asked at every look. replaced: told afterwards, with how long it hung and how many there are now; from a thread
    of the watchdog's. alive: called at every look while nothing hangs, as a service manager's own watchdog wants it.
    end: given the exit code, ends the process.
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
        # when it beat last, and until when it asked not to be expected; one reference, so that no lock is needed
        self._beaten = (time.monotonic(), 0.0)
        self._standstills: deque[tuple[float, float]] = deque(maxlen=_STANDSTILLS)  # when, and how long
        self._tried: dict[tuple[str, Doing], float] = {}  # what hangs, and when it was to be replaced
        self._faulty = self._given_up = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._alarm_fd: int | None = None

    def beat(self, grace_s: float = 0.0) -> None:
        """The main loop goes on; called by it many times within stuck_s, and with grace_s before it does what takes longer,
        or keeps the interpreter's lock for longer than LOCKED_S.
        """
        now_s = time.monotonic()
        self._beaten = (now_s, now_s + grace_s)
        if grace_s:
            self._arm(now_s)

    def __enter__(self) -> Watchdog[W]:
        if self._settings.enabled:
            self._alarm_fd = _standard_error()
            self.beat()
            self._arm(time.monotonic())
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)
            self._thread = None
        fd, self._alarm_fd = self._alarm_fd, None
        if fd is not None:
            faulthandler.cancel_dump_traceback_later()
            os.close(fd)

    def _arm(self, now_s: float) -> None:
        """Put the alarm off: it rings where this is not called again within LOCKED_S, or what the main loop asked for."""
        fd = self._alarm_fd
        if fd is not None and not self._stop.is_set():
            grace_s = max(0.0, self._beaten[1] - now_s)
            faulthandler.dump_traceback_later(LOCKED_S + grace_s, exit=True, file=fd)

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stop.wait(POLL_S):
            now_s = time.monotonic()
            self._arm(now_s)
            late_s, looked_s = now_s - looked_s - POLL_S, now_s
            if late_s > POLL_S:
                self._standstills.append((now_s, late_s))
            try:
                if self._look(now_s):
                    self._alive()
            except Exception:
                if not self._faulty:
                    self._faulty = True
                    log.exception("the watchdog met a fault of the program; said once")

    def _look(self, now_s: float) -> bool:
        """Whether all is well; else what can be done about it is done."""
        since_s, grace_until_s = self._beaten
        due_s = max(since_s, grace_until_s) + self._settings.stuck_s
        if now_s >= due_s + self._stood_still_s(since_s):
            self._give_up(f"the main loop has stood still for over {self._settings.stuck_s:g} s")
            return False
        hung = {}
        for each in self._watched():
            doing = each.pulse.hung(now_s)
            if doing is not None and now_s >= doing.due_s + self._stood_still_s(doing.since_s):
                hung[each.label, doing] = each
        self._tried = {key: tried_s for key, tried_s in self._tried.items() if key in hung}
        for (label, doing), each in hung.items():
            tried_s = self._tried.setdefault((label, doing), now_s)
            if tried_s == now_s:
                self._replace(each, doing, now_s)
            elif now_s >= tried_s + self._settings.stuck_s + self._stood_still_s(tried_s):
                self._give_up(
                    f"{label} hangs on in {doing.what}, {now_s - tried_s:.1f} s after it was to be replaced"
                )
        return not hung

    def _stood_still_s(self, since_s: float) -> float:
        """For how long of the time since then no thread ran: what was in the middle of something has so much longer."""
        return sum(long_s for at_s, long_s in self._standstills if at_s > since_s)

    def _replace(self, each: W, doing: Doing, now_s: float) -> None:
        hung_s = now_s - doing.since_s
        if self.replacements >= self._settings.replacements:
            self._give_up(
                f"{each.label} hangs in {doing.what} for {hung_s:.1f} s, after {self.replacements} that were replaced"
            )
            return
        self.replacements += 1
        count = self.replacements
        log.error("%s hangs in %s for %.1f s: replaced", each.label, doing.what, hung_s)

        def work() -> None:
            try:
                each.replace(doing)
            except EdgeError as error:
                log.error("%s cannot be replaced: %s", each.label, error)
            except Exception:
                log.exception("%s cannot be replaced, by a fault of the program", each.label)
            else:
                self._replaced(each, doing, hung_s, count)

        # in a thread of its own: opening anew what hangs may hang too, and the others are watched on
        threading.Thread(target=work, name=f"replacing {each.label}", daemon=True).start()

    def _give_up(self, why: str) -> None:
        """Say why, and end; standard error that nobody reads holds nothing up."""
        if self._given_up:
            return
        self._given_up = True

        def say() -> None:
            log.critical("the process ends itself and should be started again: %s", why)

        def dump() -> None:
            if self._alarm_fd is not None:
                faulthandler.dump_traceback(self._alarm_fd)

        for last_words in (say, dump):
            thread = threading.Thread(target=last_words, name="last words", daemon=True)
            thread.start()
            thread.join(_LAST_WORDS_S)
        self._end(EXIT_STUCK)


def _standard_error() -> int:
    """A file of the alarm's own, as standard error may be closed or replaced by then; writing to it does not block where
    the system can open it once more, as it can a pipe or a file, but not the socket of systemd's journal.
    """
    with contextlib.suppress(OSError):
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        return os.dup(2)
    return os.open(os.devnull, os.O_WRONLY)


def _end_now(code: int) -> NoReturn:
    os._exit(code)
