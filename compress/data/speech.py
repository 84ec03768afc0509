"""Spoken clips with labels: a CSV of files beside a folder of clips, read from disk as they are needed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.confined import confined
from compress.data.holdout import hold_out
from edgeai.errors import DataError, DataMissingError
from edgeai.sources.audio_file import AudioFile

LABEL_COLUMNS = ("label", "digit", "keyword", "intent")
MAX_CLIPS = 2_000_000
WHOLE_CLIP = (
    1 << 18
)  # samples read at once: a clip is a few seconds, and small blocks cost more than decoding
# 16-bit samples kept in memory: two hours at 16 kHz; past that clips are decoded each time
CACHE_BYTES = 256 << 20


class ClipCache:
    """Keeps decoded clips as 16-bit samples up to `max_bytes`. Any thread may call."""

    def __init__(self, *, sample_rate_hz: int, max_bytes: int = CACHE_BYTES) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._left_bytes = max_bytes
        self._kept: dict[tuple[Path, int], NDArray[np.int16]] = {}

    def read(self, path: Path, samples: int) -> NDArray[np.float32]:
        """The first `samples` of a clip, or all of a shorter one. Raises what read_clip raises."""
        kept = self._kept.get((path, samples))
        if kept is None:
            clip = read_clip(path, sample_rate_hz=self._sample_rate_hz)[:samples]
            if clip.size * 2 > self._left_bytes:
                return clip
            kept = np.clip(np.rint(clip * 32768), -32768, 32767).astype(np.int16)
            self._left_bytes -= kept.nbytes
            self._kept[path, samples] = kept
        return kept.astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class SpeechSet:
    """Clips of `samples` samples at `sample_rate_hz`, read when asked for.

    class_ids: (N,) int32, through `labels`. groups: (N,) the speaker of each clip, or its file name where none is told;
    splits never part a group.
    """

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    class_ids: NDArray[np.int32]
    groups: tuple[str, ...]
    samples: int
    sample_rate_hz: int = 16000
    cache: ClipCache | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.cache is None:
            object.__setattr__(self, "cache", ClipCache(sample_rate_hz=self.sample_rate_hz))

    def __len__(self) -> int:
        return len(self.paths)

    def clip(self, index: int) -> NDArray[np.float32]:
        """(samples,) float32, -1..1: cut at the end, or padded there with zeros. Raises DataError or DataMissingError."""
        assert self.cache is not None  # noqa: S101  set in __post_init__
        clip = np.zeros(self.samples, np.float32)
        heard = self.cache.read(self.paths[index], self.samples)
        clip[: len(heard)] = heard
        return clip

    def clips(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
        """(len(indices), samples) float32."""
        out = np.empty((len(indices), self.samples), np.float32)
        for row, index in enumerate(indices):
            out[row] = self.clip(int(index))
        return out

    def split(self, fraction: float) -> tuple[SpeechSet, SpeechSet]:
        """(kept, held out), whole speakers."""
        held = hold_out(self.groups, fraction)
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
        (s.labels, s.samples, s.sample_rate_hz) != (first.labels, first.samples, first.sample_rate_hz)
        for s in sets
    ):
        raise DataError("speech sets to be joined must have the same labels, length and sample rate")
    if len(sets) == 1:
        return first
    return SpeechSet(
        first.labels,
        tuple(p for s in sets for p in s.paths),
        np.concatenate([s.class_ids for s in sets]),
        tuple(g for s in sets for g in s.groups),
        first.samples,
        first.sample_rate_hz,
    )


def load_speech(
    folder: Path, split: str, labels: Sequence[str] | None, *, samples: int, sample_rate_hz: int = 16000
) -> SpeechSet:
    """Read `<split>.csv` (columns `file` and one of label, digit, keyword, intent; `speaker` where known).

    labels: None for those that occur, in alphabetical order. No clip is decoded yet. Raises DataMissingError where the list
    or a clip is absent, DataError for a label outside `labels` or a wrong column.
    """
    path = folder / f"{split}.csv"
    rows, column = read_speech_list(path)
    names = (
        tuple(labels) if labels is not None else tuple(sorted({row[column] for row in rows if row[column]}))
    )
    paths: list[Path] = []
    class_ids = np.zeros(len(rows), np.int32)
    groups = []
    for number, row in enumerate(rows):
        where = f"{path}, line {number + 2}"
        if row[column] not in names:
            raise DataError(f"{where}: label {row[column]!r} is not among {', '.join(names)}")
        clip = _inside(folder, row["file"], where)
        if not clip.is_file():
            raise DataMissingError(f"{where}: no clip at {clip}")
        paths.append(clip)
        class_ids[number] = names.index(row[column])
        speaker = row.get("speaker") or "none"
        groups.append(row["file"] if speaker == "none" else speaker)
    return SpeechSet(names, tuple(paths), class_ids, tuple(groups), samples, sample_rate_hz)


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


def read_speech_list(path: Path) -> tuple[list[dict[str, str]], str]:
    """The rows of a CSV of clips, and which column holds the label. Raises DataMissingError or DataError."""
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
    column = next((c for c in LABEL_COLUMNS if c in rows[0]), None)
    if column is None or "file" not in rows[0]:
        raise DataError(
            f"{path} must have the column file and one of {', '.join(LABEL_COLUMNS)}; it has {', '.join(map(str, rows[0]))}"
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


def load_noises(folder: Path | None, *, sample_rate_hz: int = 16000) -> list[NDArray[np.float32]]:
    """Every FLAC or WAV in `folder`, whole; empty without a folder. Raises DataMissingError where it is not there."""
    if folder is None:
        return []
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".flac", ".wav"))
    if not files:
        raise DataMissingError(f"no FLAC or WAV recordings in {folder}")
    return [read_clip(path, sample_rate_hz=sample_rate_hz) for path in files]
