"""How much may be on the way: as much as the link carries without a queue, so that what is urgent never waits behind it."""

from __future__ import annotations

import math
from typing import Final

QUEUE_TARGET_S: Final = 0.2
_LEAST_BYTES: Final = 1024
_FIRST_BYTES: Final = 2 << 10
_MOST_BYTES: Final = 16 << 20
_BASE_WINDOW_S: Final = 60.0  # how long the shortest time of a round is believed


class FlightWindow:
    """Bytes sent and not acknowledged, at most `limit_bytes`, moved so that they queue for some QUEUE_TARGET_S.

    A thin link takes what it is given into long queues (a modem's, the kernel's), and an alarm would wait at their end.
    The delay of a queue is a round's time less the shortest one seen lately. While it is below the target the window
    doubles with each round until the first queue is met, and grows by an eighth at most after that, the less the nearer
    to the target; above it, it shrinks once a round towards what gives the target. After LEDBAT (RFC 6817), on
    acknowledgements of MQTT in place of TCP's.
    """

    def __init__(self) -> None:
        self.limit_bytes = float(_FIRST_BYTES)
        self._base_s = math.inf
        self._base_until_s = -math.inf
        self._next_base_s = math.inf
        self._shrunk_s = -math.inf

    def acked(self, bytes_: int, round_s: float, now_s: float) -> None:
        """`bytes_` were acknowledged `round_s` after they were sent."""
        if now_s >= self._base_until_s:
            self._base_s, self._next_base_s = min(self._next_base_s, round_s), round_s
            self._base_until_s = now_s + _BASE_WINDOW_S
        self._next_base_s = min(self._next_base_s, round_s)
        self._base_s = min(self._base_s, round_s)
        delay_s = round_s - self._base_s
        if delay_s <= QUEUE_TARGET_S:
            met_one = self._shrunk_s != -math.inf
            growth = bytes_ * (1 - delay_s / QUEUE_TARGET_S) / 8 if met_one else bytes_
            self.limit_bytes = min(self.limit_bytes + growth, _MOST_BYTES)
        elif now_s - self._shrunk_s >= round_s:
            self._shrunk_s = now_s
            share = (self._base_s + QUEUE_TARGET_S) / round_s
            self.limit_bytes = max(self.limit_bytes * max(0.5, share), _LEAST_BYTES)
