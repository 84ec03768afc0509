"""The interface of everything that pictures and sounds come from."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Opened = TypeVar("Opened", bound="Source[Any]")


class Source(ABC, Generic[T]):
    """Yields Frame or Chunk objects until it ends. A driver only reads: no retries, no dropping, no threads.

    The constructor is cheap; `with` opens. One thread opens, iterates and closes; `cancel` may come from any other.
    Raises SourceMissingError or SourceFormatError at opening, SourceError while reading.

    live: what is not read now is gone, and the source may come back after it failed (a camera, a stream). A live
    source raises SourceError where it gave nothing for the seconds it was allowed, so that no read waits for ever; its
    frames' time_s is monotonic time since it was opened. capped: frames left out for the sake of CameraRequest.max_fps.
    bad: pictures that came damaged, and were left out.
    """

    live: bool = False
    capped: int = 0
    bad: int = 0

    @abstractmethod
    def __iter__(self) -> Iterator[T]: ...

    def open(self) -> None:
        """Acquire the file or device."""

    def close(self) -> None:
        """Release it; safe to call twice."""

    def cancel(self) -> None:
        """Make a read or an opening that is under way end soon, where that can be done; safe from any thread, at any time."""

    def __enter__(self: Opened) -> Opened:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
