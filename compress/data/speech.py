"""Spoken clips with labels: a CSV of files beside a folder of clips."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from edgeai.console import progress_bar
from edgeai.errors import DataError, DataMissingError
from edgeai.sources.audio_file import AudioFile

LABEL_COLUMNS = ("label", "digit", "keyword", "intent")
MAX_CLIPS = 200_000


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """clips: (N, samples) float32, -1..1, cut or padded with zeros at the end. class_ids: (N,) int32.

    groups: (N,) the speaker of each clip, or its file name where none is told; splits never part a group.
    """

    labels: tuple[str, ...]
    clips: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def split(self, fraction: float) -> tuple[SpeechSet, SpeechSet]:
        """(kept, held out), whole speakers, by a hash of the speaker's name."""
        held = np.array([crc32(g.encode()) % 1000 < 1000 * fraction for g in self.groups], bool)
        return self._pick(~held), self._pick(held)

    def _pick(self, mask: NDArray[np.bool_]) -> SpeechSet:
        groups = tuple(g for g, m in zip(self.groups, mask, strict=True) if m)
        return replace(self, clips=self.clips[mask], class_ids=self.class_ids[mask], groups=groups)


def load_speech(
    folder: Path, split: str, labels: Sequence[str], *, samples: int, sample_rate_hz: int = 16000
) -> SpeechSet:
    """Read `<split>.csv` (columns `file` and one of label, digit, keyword, intent; `speaker` where known).

    Raises DataMissingError where the list or a clip is absent, DataError for a label outside `labels` or a wrong column.
    """
    path = folder / f"{split}.csv"
    if not path.is_file():
        found = sorted(p.name for p in folder.glob("*.csv")) if folder.is_dir() else []
        raise DataMissingError(f"no {path}" + (f"; there is {', '.join(found)}" if found else ""))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV: {error}") from error
    if not rows:
        raise DataError(f"{path} lists no clips")
    column = next((c for c in LABEL_COLUMNS if c in rows[0]), None)
    if column is None or "file" not in rows[0]:
        raise DataError(
            f"{path} must have the column file and one of {', '.join(LABEL_COLUMNS)}; it has {', '.join(rows[0])}"
        )
    if len(rows) > MAX_CLIPS:
        raise DataError(f"{path} lists {len(rows)} clips, more than {MAX_CLIPS}")
    clips = np.zeros((len(rows), samples), np.float32)
    class_ids = np.zeros(len(rows), np.int32)
    groups = []
    with progress_bar(f"clips of {path.name}", len(rows)) as advance:
        for number, row in enumerate(rows):
            if not row["file"]:
                raise DataError(f"{path}, line {number + 2}: no file is named")
            if row[column] not in labels:
                raise DataError(
                    f"{path}, line {number + 2}: label {row[column]!r} is not among {', '.join(labels)}"
                )
            clip = read_clip(folder / row["file"], sample_rate_hz=sample_rate_hz)[:samples]
            clips[number, : len(clip)] = clip
            class_ids[number] = labels.index(row[column])
            speaker = row.get("speaker") or "none"
            groups.append(row["file"] if speaker == "none" else speaker)
            advance(1)
    return SpeechSet(tuple(labels), clips, class_ids, tuple(groups))


def read_clip(path: Path, *, sample_rate_hz: int = 16000) -> NDArray[np.float32]:
    """(N,) float32 at `sample_rate_hz`. Raises DataMissingError, or SourceFormatError where it is no audio."""
    if not path.is_file():
        raise DataMissingError(f"no clip at {path}")
    with AudioFile(path, stream=path.stem, sample_rate_hz=sample_rate_hz) as source:
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
