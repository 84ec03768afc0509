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

    The constructor is cheap; `with` opens. Raises SourceMissingError or SourceFormatError at opening, SourceError
    while reading.
    """

    @abstractmethod
    def __iter__(self) -> Iterator[T]: ...

    def open(self) -> None:
        """Acquire the file or device."""

    def close(self) -> None:
        """Release it; safe to call twice."""

    def __enter__(self: Opened) -> Opened:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
