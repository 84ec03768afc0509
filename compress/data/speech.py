"""Spoken clips with labels: a CSV of files beside a folder of clips, read from disk as they are needed."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compress.data.confined import confined
from compress.data.holdout import hold_out
from edgeai.errors import DataError, DataMissingError
from edgeai.faults import nearest_hint
from edgeai.sources.audio_file import AudioFile

LABEL_COLUMNS = ("label", "digit", "keyword", "intent")
MAX_CLIPS = 2_000_000
WHOLE_CLIP = (
    1 << 18
)  # samples read at once: a clip is a few seconds, and small blocks cost more than decoding
# 16-bit samples kept in memory: two hours at 16 kHz; past that clips are decoded each time
CACHE_BYTES = 256 << 20
Window: TypeAlias = Literal["start", "loudest"]
OTHERS = "*"


class ClipCache:
    """Keeps decoded clips as 16-bit samples up to `max_bytes`. Any thread may call."""

    def __init__(self, *, sample_rate_hz: int, max_bytes: int = CACHE_BYTES) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._left_bytes = max_bytes
        self._kept: dict[tuple[Path, int, Window], NDArray[np.int16]] = {}

    def read(self, path: Path, samples: int, window: Window = "start") -> NDArray[np.float32]:
        """`samples` of a clip from its start or where it is loudest, or all of a shorter one. Raises what read_clip raises."""
        kept = self._kept.get((path, samples, window))
        if kept is None:
            clip = read_clip(path, sample_rate_hz=self._sample_rate_hz)
            begin = loudest(clip, samples) if window == "loudest" else 0
            clip = clip[begin : begin + samples]
            if clip.size * 2 > self._left_bytes:
                return clip
            kept = np.clip(np.rint(clip * 32768), -32768, 32767).astype(np.int16)
            self._left_bytes -= kept.nbytes
            self._kept[path, samples, window] = kept
        return kept.astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class SpeechSet:
    """Clips of `samples` samples at `sample_rate_hz`, read when asked for.

    class_ids: (N,) int32, through `labels`. groups: (N,) the speaker of each clip, or its file name where none is told;
    splits never part a group. window: "start", the first samples, zeros behind a shorter clip; "loudest", round the loudest
    part, a shorter clip in the middle.
    """

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    class_ids: NDArray[np.int32]
    groups: tuple[str, ...]
    samples: int
    sample_rate_hz: int = 16000
    window: Window = "start"
    cache: ClipCache | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cache is None:
            object.__setattr__(self, "cache", ClipCache(sample_rate_hz=self.sample_rate_hz))

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int) -> NDArray[np.float32]:
        """(samples,) float32, -1..1: cut, or padded with zeros. Raises DataError or DataMissingError."""
        assert self.cache is not None  # noqa: S101  set in __post_init__
        clip = np.zeros(self.samples, np.float32)
        heard = self.cache.read(self.paths[index], self.samples, self.window)
        begin = (self.samples - len(heard)) // 2 if self.window == "loudest" else 0
        clip[begin : begin + len(heard)] = heard
        return clip

    def clips(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
        """(len(indices), samples) float32."""
        out = np.empty((len(indices), self.samples), np.float32)
        for row, index in enumerate(indices):
            out[row] = self.clip(int(index))
        return out

    def split(self, fraction: float, *, never_held: Collection[str] = ()) -> tuple[SpeechSet, SpeechSet]:
        """(kept, held out), whole speakers. never_held: speakers that are kept; the fraction is of the others."""
        free = np.array([group not in never_held for group in self.groups], bool)
        held = np.zeros(len(self), bool)
        held[free] = hold_out([group for group in self.groups if group not in never_held], fraction)
        return self.pick(~held), self.pick(held)

    def pick(self, mask: NDArray[np.bool_]) -> SpeechSet:
        """The clips where `mask` (N,) is true."""
        return replace(
            self,
            paths=tuple(p for p, m in zip(self.paths, mask, strict=True) if m),
            class_ids=self.class_ids[mask],
            groups=tuple(g for g, m in zip(self.groups, mask, strict=True) if m),
        )


def join_speech(sets: Sequence[SpeechSet]) -> SpeechSet:
    """One set of all clips; labels, length and rate must be the same. Raises DataError."""
    first = sets[0] if sets else None
    if first is None or any(
        (s.labels, s.samples, s.sample_rate_hz, s.window)
        != (first.labels, first.samples, first.sample_rate_hz, first.window)
        for s in sets
    ):
        raise DataError("speech sets to be joined must have the same labels, length, sample rate and window")
    if len(sets) == 1:
        return first
    return SpeechSet(
        first.labels,
        tuple(p for s in sets for p in s.paths),
        np.concatenate([s.class_ids for s in sets]),
        tuple(g for s in sets for g in s.groups),
        first.samples,
        first.sample_rate_hz,
        first.window,
    )


def load_speech(
    folder: Path,
    split: str,
    labels: Sequence[str] | None,
    *,
    samples: int,
    sample_rate_hz: int = 16000,
    column: str | None = None,
    called: Mapping[str, str] | None = None,
    leave_out: Collection[str] = (),
) -> SpeechSet:
    """Read `<split>.csv` (columns `file` and one of label, digit, keyword, intent; `speaker` where known).

    labels: None for those that occur, in alphabetical order. column: another one to take labels from. called: the label of each
    word that the list has there, "*" for all others; without it those are left out. leave_out: speakers. No clip is decoded yet.
    Raises DataMissingError where the list or a clip is absent, DataError for a label outside `labels`, a wrong column, or a word
    or speaker that the list does not have.
    """
    path = folder / f"{split}.csv"
    rows, column = read_speech_list(path, column)
    _check_named(path, rows, column, called or {}, leave_out)
    kept: list[tuple[str, str, Path]] = []  # label, group, clip
    for number, row in enumerate(rows):
        where = f"{path}, line {number + 2}"
        word, speaker = row[column], row.get("speaker") or "none"
        # a cell that is empty is another word, or none; one that is not there is a broken row
        label = called.get(word, called.get(OTHERS)) if called and word is not None else word
        if speaker in leave_out or (called and word and label is None):
            continue
        if not label or (labels is not None and label not in labels):
            raise DataError(
                f"{where}: label {label!r} is not among {', '.join(labels or ('those of the list',))}"
            )
        clip = _inside(folder, row["file"], where)
        if not clip.is_file():
            raise DataMissingError(f"{where}: no clip at {clip}")
        kept.append((label, row["file"] if speaker == "none" else speaker, clip))
    names = tuple(labels) if labels is not None else tuple(sorted({label for label, _, _ in kept if label}))
    return SpeechSet(
        names,
        tuple(clip for _, _, clip in kept),
        np.array([names.index(label) for label, _, _ in kept], np.int32),
        tuple(group for _, group, _ in kept),
        samples,
        sample_rate_hz,
    )


def _check_named(
    path: Path,
    rows: Sequence[Mapping[str, str]],
    column: str,
    called: Mapping[str, str],
    leave_out: Collection[str],
) -> None:
    """Raises DataError for a word or a speaker that a recipe names and the list does not have: a slip of the pen."""
    for name, known in (
        *((word, {row[column] for row in rows}) for word in called if word != OTHERS),
        *((speaker, {row.get("speaker") or "none" for row in rows}) for speaker in leave_out),
    ):
        if name not in known:
            raise DataError(f"{path} has no {name!r}", next_step=nearest_hint(name, known))


def load_sound_folders(
    folder: Path, split: str, labels: Sequence[str] | None, *, samples: int, sample_rate_hz: int = 16000
) -> SpeechSet:
    """Clips in a folder for each label, below `folder`/`split` or `folder`. labels: None for those that there are.

    Raises DataMissingError or DataError.
    """
    from compress.data.formats.folders import list_sound_folders

    listed = list_sound_folders(folder, split, labels)
    names = tuple(labels) if labels is not None else tuple(sorted({sound.label for sound in listed}))
    return SpeechSet(
        names,
        tuple(sound.path for sound in listed),
        np.array([names.index(sound.label) for sound in listed], np.int32),
        tuple(sound.speaker for sound in listed),
        samples,
        sample_rate_hz,
    )


def read_speech_list(path: Path, column: str | None = None) -> tuple[list[dict[str, str]], str]:
    """The rows of a CSV of clips, and which column holds the label: `column`, or the first of those that are known.

    Raises DataMissingError or DataError.
    """
    if not path.is_file():
        found = sorted(p.name for p in path.parent.glob("*.csv")) if path.parent.is_dir() else []
        raise DataMissingError(f"no {path}" + (f"; there is {', '.join(found)}" if found else ""))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV: {error}") from error
    if not rows:
        raise DataError(f"{path} lists nothing: there are no clips in it")
    wanted = LABEL_COLUMNS if column is None else (column,)
    column = next((c for c in wanted if c in rows[0]), None)
    if column is None or "file" not in rows[0]:
        raise DataError(
            f"{path} must have the column file and one of {', '.join(wanted)}; it has {', '.join(map(str, rows[0]))}"
        )
    if len(rows) > MAX_CLIPS:
        raise DataError(f"{path} lists {len(rows)} clips, more than {MAX_CLIPS}")
    return rows, column


def _inside(folder: Path, name: str | None, where: str) -> Path:
    """A listed file, which must not lie outside of its folder."""
    if not name:
        raise DataError(f"{where}: no file is named")
    path = confined(folder, name)
    if path is None:
        raise DataError(
            f"{where}: {name[:80]!r} leaves the folder", next_step="name files below the list's folder"
        )
    return path


def read_clip(path: Path, *, sample_rate_hz: int = 16000) -> NDArray[np.float32]:
    """(N,) float32 at `sample_rate_hz`. Raises DataMissingError, or SourceFormatError where it is no audio."""
    if not path.is_file():
        raise DataMissingError(f"no clip at {path}")
    with AudioFile(path, stream=path.stem, sample_rate_hz=sample_rate_hz, chunk_samples=WHOLE_CLIP) as source:
        parts = [chunk.samples for chunk in source]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def loudest(clip: NDArray[np.float32], samples: int) -> int:
    """Where the part of `samples` begins that has the loudest half of it in its middle; 0 for a clip that is no longer."""
    if len(clip) <= samples:
        return 0
    power = np.concatenate([[0.0], np.cumsum(np.square(clip, dtype=np.float64))])
    half = max(1, samples // 2)
    begin = int(np.argmax(power[half:] - power[:-half]))
    return int(np.clip(begin + half // 2 - samples // 2, 0, len(clip) - samples))


def load_noises(folder: Path | None, *, sample_rate_hz: int = 16000) -> list[NDArray[np.float32]]:
    """Every FLAC or WAV in `folder`, whole; empty without a folder. Raises DataMissingError where it is not there."""
    if folder is None:
        return []
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".flac", ".wav"))
    if not files:
        raise DataMissingError(f"no FLAC or WAV recordings in {folder}")
    return [read_clip(path, sample_rate_hz=sample_rate_hz) for path in files]
