"""Error rates of transcripts: how many insertions, deletions and replacements lead from what was said to what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compress.measure.metric import Metric, Picks, group_numbers, interval95
from edgeai.errors import DataError

# a string's characters, or any symbols: words, phonemes, their numbers
Transcript = Sequence[object]


def edit_distance(said: Sequence[object], wanted: Sequence[object]) -> int:
    """The fewest insertions, deletions and replacements of one symbol (Levenshtein 1966); O(len * len).

    >>> edit_distance("kitten", "sitting")
    3
    """
    if len(said) < len(wanted):
        said, wanted = wanted, said
    codes: dict[object, int] = {}
    rows = [codes.setdefault(symbol, len(codes)) for symbol in said]
    columns = np.array([codes.setdefault(symbol, len(codes)) for symbol in wanted], np.int64)
    steps = np.arange(len(columns) + 1)
    above = steps.copy()
    for number, symbol in enumerate(rows, 1):
        here = np.concatenate([[number], np.minimum(above[1:] + 1, above[:-1] + (columns != symbol))])
        # an insertion may follow any cell to the left: a running minimum of cost minus position says it at once
        above = np.minimum.accumulate(here - steps) + steps
    return int(above[-1])


def measure_transcripts(
    said: Sequence[Transcript],
    wanted: Sequence[Transcript],
    groups: Sequence[str] | None = None,
    *,
    metric: Literal["CER", "SER"] = "CER",
) -> Metric:
    """CER: edits over all symbols that were wanted; symbols are a string's characters, or the items of a list. It may exceed 1. SER: the share of utterances with any error. details hold both.

    Raises DataError where there is nothing to measure on, or the two differ in length.
    """
    if len(said) != len(wanted):
        raise DataError(f"{len(said)} transcripts cannot be compared to {len(wanted)} texts")
    lengths = np.array([len(text) for text in wanted], np.int64)
    if not lengths.sum():
        raise DataError("there are no texts to compare transcripts to")
    edits = np.array([edit_distance(s, w) for s, w in zip(said, wanted, strict=True)], np.int64)
    wrong = edits > 0

    def symbol_rate(picks: Picks) -> float:
        total = int(lengths[picks].sum())
        return float(edits[picks].sum() / total) if total else float("nan")

    def utterance_rate(picks: Picks) -> float:
        return float(wrong[picks].mean())

    statistic = symbol_rate if metric == "CER" else utterance_rate
    everything = np.arange(len(said))
    ci95 = interval95(len(said), statistic, groups=group_numbers(groups))
    details = {
        "CER": round(symbol_rate(everything), 4),
        "SER": round(utterance_rate(everything), 4),
        "symbols": int(lengths.sum()),
    }
    return Metric(metric, statistic(everything), ci95, len(said), details)
