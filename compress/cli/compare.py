"""`edgeai-compress compare`: two bundles on the same examples, and what can be said about their difference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.cli.evaluate import Evaluated, evaluate_engine
from compress.cli.evaluate_tables import interval_text, short_name
from compress.measure.bundle import choose_engine
from compress.measure.metric import group_numbers
from compress.measure.pairs import Difference, McNemar, mcnemar, paired_difference, sign_flip_p
from compress.measure.scored import Scored
from compress.measure.slices import groups_of
from edgeai.bundle import Bundle, load_bundle
from edgeai.console import print_json, print_table, progress_bar
from edgeai.errors import BundleError, DataError

# six examples that all agree are the first that chance does so less than one time in twenty (0.5 ** 5)
MIN_UNITS = 6
# rarer than this, chance alone is not believed
P_LIMIT = 0.05
_SLICE_ROUNDS = 300


@dataclass(frozen=True)
class Pair:
    """Two engine files on the same data. difference: b less a. groups_p: of the sign flip test over groups."""

    a: Evaluated
    b: Evaluated
    difference: Difference
    mcnemar: McNemar | None
    groups_p: float | None
    units: int
    slices: tuple[tuple[str, str, Difference, int, str], ...]

    @property
    def better(self) -> str | None:
        """Which one, "a" or "b"; None where no difference can be seen."""
        p = self.groups_p if self.groups_p is not None else self.mcnemar.p if self.mcnemar else 0.0
        if not self.difference.seen or self.units < MIN_UNITS or p >= P_LIMIT:
            return None
        return "b" if self.difference.value > 0 else "a"

    def sentence(self) -> str:
        """What it means, for people."""
        gap, metric = self.difference, self.a.metric.name
        n = f"{gap.n} {self.a.scored.unit}"
        if gap.value == gap.ci95[0] == gap.ci95[1] == 0:
            return f"no difference on {n}: A and B are right and wrong alike"
        if self.better is None:
            return (
                f"no difference can be seen with {n}: B less A is {gap.value:+.3f} {metric} "
                f"(95 %: {gap.ci95[0]:+.3f} to {gap.ci95[1]:+.3f})"
            )
        low, high = sorted(abs(end) for end in gap.ci95)
        first, second = ("B", "A") if self.better == "b" else ("A", "B")
        return (
            f"{first} is better than {second} by {abs(gap.value):.3f} {metric} "
            f"(95 %: {low:.3f} to {high:.3f}) on {n}"
        )

    def to_json(self) -> dict[str, Any]:
        gap = self.difference
        told: dict[str, Any] = {
            "metric": self.a.metric.name,
            "n": gap.n,
            "a": _side(self.a),
            "b": _side(self.b),
            "difference": round(gap.value, 4),
            "ci95": [round(end, 4) for end in gap.ci95],
            "better": self.better,
            "says": self.sentence(),
        }
        if self.mcnemar is not None:
            test = self.mcnemar
            told["mcnemar"] = {"only_a": test.only_a, "only_b": test.only_b, "p": round(test.p, 6)}
        if self.groups_p is not None:
            told["groups"] = {"n": self.units, "p": round(self.groups_p, 6)}
        told["slices"] = [
            {
                "by": kind,
                "slice": name,
                "difference": round(gap.value, 4),
                "ci95": [round(end, 4) for end in gap.ci95],
                "n": n,
                "unit": unit,
            }
            for kind, name, gap, n, unit in self.slices
        ]
        return told


def compare_bundles(
    where_a: str,
    where_b: str,
    *,
    data: Path,
    split: str,
    engine_a: str | None = None,
    engine_b: str | None = None,
    iou: float = 0.5,
    json_output: bool = False,
) -> int:
    """Print the two, their paired difference, and what that means.

    Raises BundleError where the two do not do the same job, and what evaluate_bundle raises.
    """
    first, second = load_bundle(where_a), load_bundle(where_b)
    chosen_a, chosen_b = choose_engine(first, engine_a), choose_engine(second, engine_b)
    _check_same_job(first, second)
    pair = pair_up(
        evaluate_engine(first, chosen_a, data, split, iou=iou),
        evaluate_engine(second, chosen_b, data, split, iou=iou),
    )
    if json_output:
        print_json(pair.to_json())
        return 0
    _print_pair(pair, f"{split} of {data}")
    return 0


def pair_up(a: Evaluated, b: Evaluated) -> Pair:
    """The two on the examples that both were given. Raises DataError where these differ."""
    if a.scored.names != b.scored.names:
        raise DataError(
            f"the two bundles were measured on different {a.scored.unit}: {len(a.scored)} and {len(b.scored)}"
        )
    names = a.scored.groups
    groups = group_numbers(names)
    slices = _slice_differences(a.scored, b.scored)
    difference = paired_difference(len(a.scored), a.scored.value, b.scored.value, groups=groups)
    right_a, right_b = a.scored.right(), b.scored.right()
    test = mcnemar(right_a, right_b) if right_a is not None and right_b is not None else None
    groups_p = None
    if groups is not None and right_a is not None and right_b is not None:
        groups_p = sign_flip_p(right_b.astype(float) - right_a, groups)
    units = len(a.scored) if groups is None else len(np.unique(groups))
    return Pair(a, b, difference, test, groups_p, units, slices)


def _slice_differences(a: Scored, b: Scored) -> tuple[tuple[str, str, Difference, int, str], ...]:
    """Of the slices that both have: those by the model's picture differ where the two look at other sizes."""
    others = {(part.kind, part.name): part for part in b.slices()}
    pairs = [(part, others[part.kind, part.name]) for part in a.slices() if (part.kind, part.name) in others]
    rows = []
    with progress_bar("slices", len(pairs)) as advance:
        for part, other in pairs:
            if part.n == other.n and np.array_equal(part.picks, other.picks):
                gap = paired_difference(
                    len(part.picks),
                    lambda inner, part=part: part.value(part.picks[inner]),  # type: ignore[misc]
                    lambda inner, other=other: other.value(other.picks[inner]),  # type: ignore[misc]
                    groups=groups_of(part, a.groups),
                    rounds=_SLICE_ROUNDS,
                )
                if not np.isnan(gap.value):
                    rows.append((part.kind, part.name, gap, part.n, part.unit))
            advance(1)
    return tuple(rows)


def _check_same_job(a: Bundle, b: Bundle) -> None:
    if a.manifest.task != b.manifest.task:
        raise BundleError(
            f"{a.name} does {a.manifest.task!r}, {b.name} does {b.manifest.task!r}: there is no metric for both"
        )
    if set(a.labels) != set(b.labels):
        apart = sorted(set(a.labels) ^ set(b.labels))
        raise BundleError(
            f"{a.name} and {b.name} know different labels: {', '.join(apart[:6])} only one of them",
            next_step="compare bundles with the same labels",
        )


def _side(made: Evaluated) -> dict[str, Any]:
    return {
        "bundle": made.bundle.name,
        "engine": made.engine,
        "value": round(made.metric.value, 4),
        "ci95": [round(end, 4) for end in made.metric.ci95],
        "bytes": made.cost.bytes,
        "gzip_bytes": made.cost.gzip_bytes,
        "ms_p50": round(made.cost.ms_p50, 4),
    }


def _print_pair(pair: Pair, title: str) -> None:
    metric = pair.a.metric.name
    rows = [
        [
            letter,
            made.engine,
            f"{made.metric.value:.3f}",
            interval_text(made.metric.ci95),
            f"{made.cost.bytes:,}",
            f"{made.cost.ms_p50:.2f}",
        ]
        for letter, made in (("A", pair.a), ("B", pair.b))
    ]
    for letter, made in (("A", pair.a), ("B", pair.b)):
        print(f"{letter}: {made.bundle.name} {made.bundle.manifest.version}, {made.entry.path}")
    print_table(["", "engine", metric, "95 % interval", "bytes", "ms"], rows, title=title)
    print(pair.sentence())
    if pair.mcnemar is not None:
        test = pair.mcnemar
        print(f"only A is right on {test.only_a}, only B on {test.only_b}; McNemar's exact p = {test.p:.3g}")
    if pair.groups_p is not None:
        print(f"over whole groups (there are {pair.units}): p = {pair.groups_p:.3g}")
    by_gap = sorted(pair.slices, key=lambda row: -abs(row[2].value))
    told = [row for row in by_gap if row[3] >= MIN_UNITS and row[2].value][:12]
    if told:
        print_table(
            ["slice", "B less A", "95 % interval", "n"],
            [
                [short_name(f"{kind}: {name}", 36), f"{gap.value:+.3f}", interval_text(gap.ci95), n]
                for kind, name, gap, n, _ in told
            ],
            title="where the two differ most",
        )
