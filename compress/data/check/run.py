"""Checks a data set: one pass over its files with a few threads, then what only shows between files."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from compress.data.check.fingerprint import Samples, find_shared_spans, propose_pairs, resample_for_comparison
from compress.data.check.listing import Entry, Listing, guard_order
from compress.data.check.lists import open_listings
from compress.data.check.lookalikes import find_lookalikes
from compress.data.check.pictures import PictureFacts, look_at_picture
from compress.data.check.report import CheckReport, Fault, sort_faults
from compress.data.check.sounds import MIN_S, SoundFacts, look_at_sound, read_whole
from compress.data.check.splits import (
    MIN_EXAMPLES,
    count_split,
    find_class_faults,
    find_group_leaks,
    find_unlisted,
)
from edgeai.console import progress_bar
from edgeai.errors import DataError

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class Checked:
    """The report, and the lists that it is about."""

    report: CheckReport
    listings: tuple[Listing, ...]


def run_check(
    folder: Path,
    splits: Sequence[str] = (),
    *,
    rate_hz: int | None = None,
    min_examples: int = MIN_EXAMPLES,
) -> Checked:
    """Look at every listed file of a data folder. splits: all where none is named. rate_hz: what every sound must have.

    Memory grows by some 3 KB a picture and by half a kilobyte a second of sound. Raises DataMissingError and DataError where
    there is no list to begin with.
    """
    listings = open_listings(folder, splits)
    if len({listing.kind for listing in listings}) > 1:
        kinds = ", ".join(f"{listing.split}: {listing.kind}" for listing in listings)
        raise DataError(
            f"{folder} mixes pictures and sounds ({kinds})", next_step="name the splits with --split"
        )
    entries = [entry for listing in listings for entry in listing.entries]
    faults = [fault for listing in listings for fault in listing.faults]
    seconds = dict.fromkeys((listing.split for listing in listings), 0.0)
    if listings[0].kind == "sounds":
        clips, found = _look_at_all(entries, lambda entry: look_at_sound(entry, rate_hz=rate_hz), folder.name)
        faults += found + _between_clips(clips)
        for entry, sound in clips:
            seconds[entry.split] += sound.seconds
    else:
        pictures, found = _look_at_all(entries, look_at_picture, folder.name)
        faults += found + _between_pictures(pictures)
    counts = tuple(count_split(listing, seconds[listing.split]) for listing in listings)
    faults += find_class_faults(counts, min_examples=min_examples)
    faults += find_group_leaks(listings) + find_unlisted(folder, listings)
    return Checked(CheckReport(folder, listings[0].kind, counts, sort_faults(faults)), tuple(listings))


def _look_at_all(
    entries: Sequence[Entry], look: Callable[[Entry], tuple[_Out | None, list[Fault]]], name: str
) -> tuple[list[tuple[Entry, _Out]], list[Fault]]:
    seen: list[tuple[Entry, _Out]] = []
    faults: list[Fault] = []
    with progress_bar(f"files of {name}", len(entries)) as advance:
        for entry, (facts, found) in zip(entries, _in_threads(look, entries), strict=True):
            if facts is not None:
                seen.append((entry, facts))
            faults += found
            advance(1)
    return seen, faults


def _in_threads(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """The results in order; only a few items are under way, so that memory stays bounded. Decoding lets go of the GIL."""
    count = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(count, thread_name_prefix="look") as pool:
        ahead: deque[Future[_Out]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 4 * count:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


class _Pairs:
    """Blames the less guarded, or the later, of two entries that clash; one fault of a code for an entry."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        order = guard_order(list(dict.fromkeys(entry.split for entry in entries)))
        self._place = {split: i for i, split in enumerate(order)}
        self._faults: dict[tuple[str, str, str], Fault] = {}

    def add(self, a: Entry, b: Entry, *, within: str, across: str, detail: str = "") -> None:
        first, second = sorted((a, b), key=lambda e: (self._place[e.split], e.row))
        code = within if a.split == b.split else across
        if code:
            key = (code, second.split, second.file)
            self._faults.setdefault(
                key, Fault(code, second.split, second.file, detail, other=(first.split, first.file))
            )

    def faults(self) -> list[Fault]:
        return list(self._faults.values())


def _same_files(seen: Sequence[tuple[Entry, PictureFacts | SoundFacts]], pairs: _Pairs) -> list[int]:
    """Tell files of the same content; the numbers of those that stand for all."""
    first: dict[tuple[bytes, str], int] = {}
    anywhere: dict[bytes, int] = {}
    kept = []
    for number, (entry, facts) in enumerate(seen):
        here = first.setdefault((facts.digest, entry.split), number)
        if here != number:
            if seen[here][0].file != entry.file:  # listed twice is told of the list
                _clash(seen[here][0], entry, pairs, "duplicate", "leak-file")
            continue
        elsewhere = anywhere.setdefault(facts.digest, number)
        if elsewhere != number:
            _clash(seen[elsewhere][0], entry, pairs, "duplicate", "leak-file")
        else:
            kept.append(number)
    return kept


def _clash(a: Entry, b: Entry, pairs: _Pairs, within: str, across: str, detail: str = "") -> None:
    """Two entries of the same content: told, and told again where their labels differ."""
    pairs.add(a, b, within=within, across=across, detail=detail)
    if a.label != b.label:
        told = f"{a.label} and {b.label}"
        pairs.add(a, b, within="conflicting-labels", across="conflicting-labels", detail=told)
    elif not detail and sorted(box.label for box in a.boxes) != sorted(box.label for box in b.boxes):
        told = f"{len(a.boxes)} and {len(b.boxes)} boxes"
        pairs.add(a, b, within="conflicting-labels", across="conflicting-labels", detail=told)


def _between_pictures(seen: list[tuple[Entry, PictureFacts]]) -> list[Fault]:
    pairs = _Pairs([entry for entry, _ in seen])
    kept = [seen[number] for number in _same_files(seen, pairs)]
    structured = [(entry, facts.look) for entry, facts in kept if facts.look is not None]
    splits = list(dict.fromkeys(entry.split for entry, _ in structured))
    with progress_bar("look-alikes", 2 * len(structured)) as advance:
        found = find_lookalikes(
            [look for _, look in structured],
            [splits.index(entry.split) for entry, _ in structured],
            advance=advance,
        )
    for pair in found:
        a, b = structured[pair.first][0], structured[pair.second][0]
        detail = "turned or mirrored" if pair.turned else ""
        if pair.copy:
            _clash(a, b, pairs, "near-duplicate", "leak-near", detail)
        else:
            pairs.add(a, b, within="", across="same-scene", detail=detail)
    return pairs.faults() + _mixed_colours(seen)


def _mixed_colours(seen: list[tuple[Entry, PictureFacts]]) -> list[Fault]:
    colours = Counter(facts.colours for _, facts in seen if facts.colours in ("grey", "colour"))
    if len(colours) < 2:
        return []
    usual, count = colours.most_common(1)[0]
    if count < 0.8 * sum(colours.values()):
        return []
    return [
        Fault("mixed-colour", entry.split, entry.file, facts.colours)
        for entry, facts in seen
        if facts.colours in ("grey", "colour") and facts.colours != usual
    ]


def _between_clips(seen: list[tuple[Entry, SoundFacts]]) -> list[Fault]:
    pairs = _Pairs([entry for entry, _ in seen])
    kept = [seen[number] for number in _same_files(seen, pairs)]

    def read(number: int) -> Samples:
        path = kept[number][0].path
        assert path is not None  # noqa: S101  look_at_sound refuses such an entry
        samples, rate_hz, *_ = read_whole(path)
        return resample_for_comparison(samples, rate_hz)

    words = [facts.words for _, facts in kept]
    with progress_bar("shared recordings", len(propose_pairs(words))) as advance:
        spans = find_shared_spans(words, read, advance=advance)
    for span in sorted(spans, key=lambda s: -s.overlap_s):
        a, b = kept[span.first][0], kept[span.second][0]
        if span.whole:
            shift = f"{1000 * abs(span.first_s - span.second_s):.0f} ms apart"
            _clash(a, b, pairs, "near-duplicate", "leak-near", shift)
        else:
            where = f"{span.overlap_s:.2f} s, at {span.first_s:.2f} s and {span.second_s:.2f} s"
            pairs.add(a, b, within="shared-span", across="leak-span", detail=where)
    return pairs.faults() + _against_the_rest(seen)


def _against_the_rest(seen: list[tuple[Entry, SoundFacts]]) -> list[Fault]:
    if not seen:
        return []
    faults = []
    rate_hz = Counter(facts.rate_hz for _, facts in seen).most_common(1)[0][0]
    channels = Counter(facts.channels for _, facts in seen).most_common(1)[0][0]
    usual_s = float(np.median([facts.seconds for _, facts in seen]))
    for entry, facts in seen:
        told = []
        if facts.rate_hz != rate_hz:
            told.append(("mixed-rate", f"{facts.rate_hz} Hz, most have {rate_hz}"))
        if facts.channels != channels:
            told.append(("mixed-channels", f"{facts.channels}, most have {channels}"))
        if facts.seconds < max(MIN_S, usual_s / 4):
            told.append(("too-short", f"{facts.seconds:.2f} s, usual are {usual_s:.2f}"))
        if facts.seconds > 4 * usual_s:
            told.append(("too-long", f"{facts.seconds:.2f} s, usual are {usual_s:.2f}"))
        faults += [Fault(code, entry.split, entry.file, detail) for code, detail in told]
    return faults
