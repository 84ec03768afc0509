"""A wake word's misses against its false accepts per hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.measure.metric import Metric, group_numbers, interval95
from edgeai.errors import DataError

# the rate that cannot be excluded where nothing fired in h hours is 3 / h (the rule of three, Hanley & Lippman-Hand 1983)
_RULE_OF_THREE = 3.0


@dataclass(frozen=True, slots=True)
class MissPoint:
    """threshold: the score from which the word is said to be heard. per_hour: false accepts; miss_rate: 0..1.

    per_hour_high: a rate that cannot be excluded with 95 %, where nothing fired falsely.
    """

    threshold: float
    miss_rate: float
    per_hour: float
    false_accepts: int
    per_hour_high: float

    def to_json(self) -> dict[str, Any]:
        return {
            "threshold": round(self.threshold, 6),
            "miss_rate": round(self.miss_rate, 4),
            "false_accepts_per_hour": round(self.per_hour, 4),
            "false_accepts": self.false_accepts,
            "per_hour_high": round(self.per_hour_high, 4),
        }


@dataclass(frozen=True, slots=True)
class MissCurve:
    """One point a threshold, thresholds falling: misses fall, false accepts rise. negative_hours: of audio without the word."""

    threshold: NDArray[np.float64]
    miss_rate: NDArray[np.float64]
    false_accepts: NDArray[np.int64]
    negative_hours: float

    def at(self, index: int) -> MissPoint:
        count = int(self.false_accepts[index])
        high = max(count, _RULE_OF_THREE) / self.negative_hours
        return MissPoint(
            float(self.threshold[index]),
            float(self.miss_rate[index]),
            count / self.negative_hours,
            count,
            high,
        )

    def best(self, *, per_hour: float) -> MissPoint:
        """The point with the fewest misses that stays within `per_hour` false accepts."""
        # a count is whole: 0.5 an hour over 1.9 hours allows none
        allowed = np.flatnonzero(self.false_accepts <= per_hour * self.negative_hours)
        return self.at(int(allowed[-1]))


def miss_curve(
    utterance_peaks: NDArray[Any], false_peaks: NDArray[Any], *, negative_hours: float
) -> MissCurve:
    """utterance_peaks: (N,) the highest score of each utterance of the word; false_peaks: (M,) of each rise of the score in
    `negative_hours` of audio without it (the highest score of each clip, or each peak of a stream). The first threshold is above
    them all.

    Raises DataError without utterances or hours, or for scores that are no numbers.
    """
    words, others = np.asarray(utterance_peaks, np.float64), np.asarray(false_peaks, np.float64)
    if not len(words):
        raise DataError("there are no utterances of the word to miss")
    if not negative_hours > 0:
        raise DataError(f"false accepts per hour need hours of other audio, got {negative_hours:g}")
    if not (np.isfinite(words).all() and np.isfinite(others).all()):
        raise DataError("scores of utterances are no numbers")
    levels = np.unique(np.concatenate([words, others]))[::-1]
    threshold = np.concatenate([[levels[0] + 1e-6], (levels[:-1] + levels[1:]) / 2, levels[-1:]])
    missed = np.searchsorted(np.sort(words), threshold, side="left")
    accepted = len(others) - np.searchsorted(np.sort(others), threshold, side="left")
    return MissCurve(threshold, missed / len(words), accepted.astype(np.int64), float(negative_hours))


def false_accepts_text(count: int, hours: float) -> str:
    """How often other sound was taken for the word, and what that says, for people."""
    sure = (
        f"{count / hours:.2f} an hour"
        if count
        else f"up to {_RULE_OF_THREE / hours:.1f} an hour cannot be excluded"
    )
    return f"{count} false accepts in {hours:.2f} h of other sound: {sure}"


def measure_wake_word(
    utterance_peaks: NDArray[Any],
    false_peaks: NDArray[Any],
    *,
    negative_hours: float,
    threshold: float,
    groups: Sequence[str] | None = None,
) -> Metric:
    """Recall at `threshold`. details: "false_accepts" and "negative_hours". Arguments and errors as of miss_curve.

    groups: (N,) the speaker of each utterance of the word.
    """
    miss_curve(utterance_peaks, false_peaks, negative_hours=negative_hours)
    heard = np.asarray(utterance_peaks) >= threshold
    ci95 = interval95(len(heard), lambda picks: float(heard[picks].mean()), groups=group_numbers(groups))
    details = {
        "false_accepts": int((np.asarray(false_peaks) >= threshold).sum()),
        "negative_hours": round(float(negative_hours), 4),
    }
    return Metric("recall", float(heard.mean()), ci95, len(heard), details)
