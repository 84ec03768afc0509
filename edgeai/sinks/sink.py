"""The interface of everything that events go to."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Sequence

from edgeai.types import Event


class Sink(ABC):
    """Takes events, one at a time, in order. `with` opens it; the constructor is cheap."""

    @abstractmethod
    def send(self, event: Event) -> None:
        """Hand the event over. Raises SinkError where it could not be; the caller keeps the event then."""

    def send_many(self, events: Sequence[Event]) -> None:
        """Hand over events that belong together, those of one frame. A sink that stores them does it at one stroke.

        Raises as `send` does; those before the one at fault may have been handed over.
        """
        for event in events:
            self.send(event)

    def open(self) -> None:
        """Acquire what is needed."""

    def close(self) -> None:
        """Release it; safe to call twice."""

    def __enter__(self) -> Sink:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
