"""What one fault did to one publisher: a row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from fault_suite.tally import Tally

Verdict = Literal["holds", "FAILS", "-", "absent"]
"""-: somebody else's publisher, nothing is demanded of it. absent: the fault cannot be made here."""

HEADINGS: Final = ("fault", "publisher", "put", "got", "lost", "dup", "swap", "back s", "verdict")
LEGEND: Final = (
    "put: reported as stored · got: different ids that arrived · lost: put and never arrived · dup: arrived again "
    "(same id) · swap: out of order within a camera · back s: from the fault's end to the first message, p50/p99 "
    "where there are many rounds, > where none came while the run lasted"
)


@dataclass(frozen=True, slots=True)
class Row:
    """broken: the demands that were not met, in words; none in a row that holds. recovery_s: one figure a round, infinite
    where nothing came back. figures: anything else that was measured, by a name with its unit.
    """

    fault: str
    publisher: str = "edgeai"
    tally: Tally | None = None
    recovery_s: tuple[float, ...] = ()
    verdict: Verdict = "holds"
    broken: tuple[str, ...] = ()
    note: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    def cells(self) -> list[str]:
        counts = (
            ["-"] * 5
            if self.tally is None
            else [
                str(number)
                for number in (
                    self.tally.put,
                    self.tally.delivered,
                    self.tally.lost,
                    self.tally.duplicates,
                    self.tally.unordered,
                )
            ]
        )
        return [self.fault, self.publisher, *counts, _seconds(self.recovery_s), self.verdict]

    def lines(self) -> list[str]:
        """What does not fit into the table."""
        said = [*self.broken, *([self.note] if self.note else [])]
        said += [
            f"{name} {value:.4g}" if np.isfinite(value) else f"{name} never while the run lasted"
            for name, value in self.figures.items()
        ]
        who = f"{self.fault}, {self.publisher}" if self.publisher else self.fault
        return [f"{who}: {'; '.join(said)}"] if said else []

    def to_json(self) -> dict[str, object]:
        return {
            "fault": self.fault,
            "publisher": self.publisher,
            **({} if self.tally is None else self.tally.to_json()),
            "recovery_s": [round(one, 4) if np.isfinite(one) else None for one in self.recovery_s],
            "verdict": self.verdict,
            "broken": list(self.broken),
            "note": self.note,
            "figures": {
                name: round(value, 4) if np.isfinite(value) else None for name, value in self.figures.items()
            },
        }


def judged(
    fault: str,
    tally: Tally | None = None,
    *,
    demands: Sequence[tuple[bool, str]] = (),
    recovery_s: Sequence[float] = (),
    note: str = "",
    figures: dict[str, float] | None = None,
    complete: bool = True,
) -> Row:
    """A row of ours: with a tally nothing lost (`complete`), changed or swapped, and every one of `demands` (met, in words)."""
    checks = [*demands]
    if tally is not None:
        if complete:
            checks.append((tally.lost == 0, f"{tally.lost} of {tally.put} lost"))
        checks += [
            (tally.unordered == 0, f"{tally.unordered} out of order"),
            (tally.damaged == 0, f"{tally.damaged} arrived damaged"),
            (tally.conflicting == 0, f"{tally.conflicting} ids came with different contents"),
        ]
    broken = tuple(words for met, words in checks if not met)
    return Row(
        fault,
        tally=tally,
        recovery_s=tuple(recovery_s),
        verdict="FAILS" if broken else "holds",
        broken=broken,
        note=note,
        figures=figures or {},
    )


def baseline(
    fault: str,
    publisher: str,
    tally: Tally | None = None,
    *,
    recovery_s: Sequence[float] = (),
    note: str = "",
    figures: dict[str, float] | None = None,
) -> Row:
    """A row of somebody else's publisher: nothing is demanded of it."""
    return Row(fault, publisher, tally, tuple(recovery_s), "-", (), note, figures or {})


def missing(fault: str, why: str) -> Row:
    """A fault that cannot be made here."""
    return Row(fault, "", verdict="absent", note=why)


def _seconds(samples: tuple[float, ...]) -> str:
    if not samples:
        return "-"
    if len(samples) < 3:
        return "/".join(">" if not np.isfinite(one) else f"{one:.1f}" for one in samples)
    # an order statistic, not between two: one of them may be infinite
    p50, p99 = np.percentile(samples, (50, 99), method="higher")
    return "/".join(f"{one:.2f}" if np.isfinite(one) else ">" for one in (p50, p99))
