"""A teacher's answers in the batches: asked for each time, or once, and kept on disk with the batches themselves.

Batch n of a training is always made by default_rng([seed, n]) (compress.train.batches), so the first `count` batches can be
kept, and step n takes batch n % count.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.distill.kept_batches import KeptBatches, batch_bytes, write_batches
from compress.distill.teacher_network import TeacherNetwork
from compress.train.batches import Batch, Make, make_numbered, open_batches
from compress.train.checkpoint import fingerprint_of
from edgeai.console import print_note, progress_bar
from edgeai.errors import PassError

ANSWERS = "teacher"
MAX_BYTES = 4 << 30
TIMED = 3
# what reading a batch back may save, as a part of all the time, below which it is not worth the disk
LEAST_SAVED = 0.1
# fewer different batches than this part of the steps and the student sees the same pictures over and over
LEAST_SHARE = 0.02


def with_answers(make: Make, teacher: TeacherNetwork) -> Make:
    """Batches with batch["teacher"], {output: (B, ...) float32}, where they have none yet."""

    def answered(rng: np.random.Generator) -> Batch:
        batch = make(rng)
        return batch if ANSWERS in batch else {**batch, ANSWERS: teacher(batch["inputs"])}

    return answered


def cache_batches(
    make: Make,
    teacher: TeacherNetwork,
    folder: Path,
    *,
    count: int,
    steps: int,
    seed: int,
    facts: Mapping[str, Any],
    max_bytes: int = MAX_BYTES,
) -> Make:
    """Batches with the teacher's answers: from `folder`, where that is faster than asking anew in each of `steps` steps.

    folder: of this cache alone. seed: the training's. facts: JSON of whatever the batches depend on (data, augmentation,
    batch size). Kept are `count` batches, or fewer where max_bytes or half the disk's room is less; a cache of other facts,
    another teacher or one that is damaged is made anew, and a single batch that is damaged is made again by itself. What was
    decided, and why, is said in one line. Raises PassError where the disk does not take it; what `make` and the teacher raise
    comes out as it is.
    """
    answered = with_answers(make, teacher)
    count = min(count, steps)
    key = fingerprint_of({"facts": dict(facts), "teacher": teacher.fingerprint, "seed": seed, "count": count})
    kept = KeptBatches.load(folder, key)
    if kept is not None:
        print_note(f"{kept.count} batches with the answers of {teacher.name} are kept from before")
        return _reader(kept, answered, seed)
    first, anew_s = _timed(answered, seed)
    room = min(max_bytes, _room(folder) // 2)
    fit = min(count, room // max(1, batch_bytes(first)))
    if fit < max(1, LEAST_SHARE * steps):
        print_note(
            f"the answers of {teacher.name} are not kept: {fit} of {steps} batches fit into {room >> 20} MB"
        )
        return answered
    read_s = batch_bytes(first) / 1e9  # from the page cache, a GB a second
    wanted_s, kept_s = steps * anew_s, fit * anew_s + steps * read_s
    if kept_s > (1 - LEAST_SAVED) * wanted_s:
        print_note(
            f"the answers of {teacher.name} are asked anew each step: {wanted_s:.0f} s in all, {kept_s:.0f} s with "
            f"{fit} batches kept"
        )
        return answered
    print_note(
        f"the answers of {teacher.name} are kept: {fit} batches, {fit * batch_bytes(first) >> 20} MB; "
        f"{kept_s:.0f} s in all instead of {wanted_s:.0f} s"
    )
    with (
        open_batches(answered, seed=seed) as batches,
        progress_bar(f"asking {teacher.name}", fit) as advance,
    ):

        def told() -> Batch:
            batch = next(batches)
            advance(1)
            return batch

        kept = write_batches(folder, key, told, fit)
    return _reader(kept, answered, seed)


def _timed(make: Make, seed: int) -> tuple[Batch, float]:
    """A batch, and the seconds that one takes: the median of a few, after a first one that opens things."""
    batch = make_numbered(make, seed=seed, number=0)
    taken = []
    for number in range(1, TIMED + 1):
        began = time.perf_counter()
        make_numbered(make, seed=seed, number=number)
        taken.append(time.perf_counter() - began)
    return batch, float(np.median(taken))


def _room(folder: Path) -> int:
    """Free bytes where `folder` will be."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    try:
        return shutil.disk_usage(there).free
    except OSError as error:
        raise PassError(f"{there} cannot be looked at: {error.strerror or error}") from error


def _reader(kept: KeptBatches, make: Make, seed: int) -> Make:
    def read(rng: np.random.Generator) -> Batch:
        number = _number(rng) % kept.count
        batch = kept.read(number)
        return batch if batch is not None else make_numbered(make, seed=seed, number=number)

    return read


def _number(rng: np.random.Generator) -> int:
    """The n of default_rng([seed, n]). Raises PassError for another generator."""
    sequence = rng.bit_generator.seed_seq
    entropy = getattr(sequence, "entropy", None)
    if not isinstance(entropy, list | tuple) or len(entropy) != 2:
        raise PassError(
            "kept batches are read by the numbers of a training's batches, this generator has none"
        )
    return int(entropy[1])
