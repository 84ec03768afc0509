"""One look at a sound file: is it whole, how loud, and what identifies it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.check.fingerprint import Words, fingerprint, resample_for_words
from compress.data.check.listing import Entry
from compress.data.check.report import Fault

_Say = Callable[..., None]

# what is longer is looked at so far: the rest of an hour-long recording is like it
MAX_LOOK_S = 600
MAX_FILE_BYTES = 2 << 30

# 0 dBFS is a full-scale square wave. The bounds leave alone what the train clips of speech_commands, fsdd and
# wakeword_alexa have in 98 of 100; what lies beyond sounds wrong there too.
FULL_SCALE = 0.999
MAX_CLIPPED_SHARE = 0.001
MIN_CLIPPED = 8
QUIET_DB = -60.0
MAX_QUIET_SHARE = 0.9
MAX_OFFSET = 0.02
FRAME_S = 0.02
MIN_S = 0.05
_BLOCK = 4096
# labels whose clips may hold next to nothing
SILENCE_LABELS = frozenset(
    {"silence", "_silence_", "quiet", "none", "background", "_background_noise_", "noise"}
)


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """digest: SHA-256 of the file. seconds: its whole length. words: the fingerprint of the first ten minutes."""

    digest: bytes
    rate_hz: int
    channels: int
    seconds: float
    words: Words


@dataclass(frozen=True, slots=True)
class Levels:
    """Of samples -1..1. peak: largest magnitude. rms_db: dBFS. clipped, quiet: shares 0..1. offset: the mean."""

    peak: float
    rms_db: float
    clipped: float
    quiet: float
    offset: float


def look_at_sound(entry: Entry, *, rate_hz: int | None) -> tuple[SoundFacts | None, list[Fault]]:
    """Decode a listed clip once. rate_hz: the rate that is wanted, None for any. (None, faults) where it cannot be read."""
    faults: list[Fault] = []

    def say(code: str, detail: str = "") -> None:
        faults.append(Fault(code, entry.split, entry.file, detail))

    if entry.path is None:
        say("bad-entry", "the name leads outside the data folder")
        return None, faults
    if not entry.path.is_file():
        say("absent")
        return None, faults
    if not 0 < entry.path.stat().st_size <= MAX_FILE_BYTES:
        say("unreadable", f"{entry.path.stat().st_size:,} bytes")
        return None, faults
    try:
        samples, told_rate_hz, channels, frames, cut = read_whole(entry.path)
    except UnreadableSoundError as error:
        say("unreadable", str(error))
        return None, faults
    seconds = frames / told_rate_hz
    if cut:
        say("truncated", cut)
    elif entry.samples and entry.samples != frames:
        say("length-differs", f"{frames} samples, the list tells {entry.samples}")
    wanted = entry.rate_hz or rate_hz
    if wanted and told_rate_hz != wanted:
        say("wrong-rate", f"{told_rate_hz} Hz, {wanted} are told")
    _judge(entry, measure_levels(samples, told_rate_hz), say)
    words = fingerprint(resample_for_words(samples, told_rate_hz))
    return SoundFacts(_digest(entry.path), told_rate_hz, channels, seconds, words), faults


def measure_levels(samples: NDArray[np.float32], rate_hz: int) -> Levels:
    """Levels of (N,) samples; silence for none."""
    if not len(samples):
        return Levels(0.0, -200.0, 0.0, 1.0, 0.0)
    offset = float(samples.mean(dtype=np.float64))
    level = np.abs(samples)
    peak = float(level.max())
    swing = samples - np.float32(offset)  # a constant is no sound
    size = max(1, round(FRAME_S * rate_hz))
    power = swing[: len(swing) // size * size].reshape(-1, size).astype(np.float64) ** 2
    frames = power.mean(axis=1) if len(power) else np.array([np.square(swing, dtype=np.float64).mean()])
    rms_db = 10 * float(np.log10(np.square(swing, dtype=np.float64).mean() + 1e-20))
    quiet = float((frames < 10 ** (QUIET_DB / 10)).mean())
    return Levels(peak, rms_db, _clipped_share(samples, level, peak), quiet, offset)


def _clipped_share(samples: NDArray[np.float32], level: NDArray[np.float32], peak: float) -> float:
    """Samples at full scale, or within runs of three or more equal ones at the clip's own peak (clipped, then turned down)."""
    full = level >= FULL_SCALE
    if peak > 0.05 and len(samples) > 2:
        tops = level >= 0.995 * peak
        same = (samples[1:] == samples[:-1]) & tops[1:]
        run = same[1:] & same[:-1]
        flat = np.zeros(len(samples), bool)
        flat[2:] |= run
        flat[1:-1] |= run
        flat[:-2] |= run
        full |= flat
    count = int(np.count_nonzero(full))
    return count / len(full) if count >= MIN_CLIPPED else 0.0


def _judge(entry: Entry, levels: Levels, say: _Say) -> None:
    may_be_quiet = entry.label.lower() in SILENCE_LABELS
    if levels.rms_db <= -150:
        if not may_be_quiet:
            say("silent")
        return
    if levels.rms_db < QUIET_DB:
        if not may_be_quiet:
            say("too-quiet", f"{levels.rms_db:.0f} dBFS")
    elif levels.quiet > MAX_QUIET_SHARE and not may_be_quiet:
        say("mostly-silent", f"{levels.quiet:.0%} below {QUIET_DB:.0f} dBFS")
    if levels.clipped > MAX_CLIPPED_SHARE:
        say("clipped", f"{levels.clipped:.1%} of the samples")
    if abs(levels.offset) > MAX_OFFSET:
        say("dc-offset", f"{levels.offset:+.3f} of full scale")


class UnreadableSoundError(Exception):
    """A sound file that cannot be decoded, in words."""


def read_whole(path: Path) -> tuple[NDArray[np.float32], int, int, int, str]:
    """(samples (N,) mono of the first ten minutes, rate, channels, frames in all, why it ends early or "")."""
    import soundfile

    blocks: list[NDArray[np.float32]] = []
    why = ""
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate_hz, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
            if not 1000 <= rate_hz <= 384_000:
                raise UnreadableSoundError(f"{rate_hz} samples a second")
            wanted = min(frames, MAX_LOOK_S * rate_hz)
            try:
                while wanted and len(part := file.read(min(wanted, _BLOCK), dtype="float32", always_2d=True)):
                    blocks.append(part)
                    wanted -= len(part)
            except (soundfile.SoundFileError, RuntimeError) as error:
                if not blocks:
                    raise
                why = _reason(error)
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, OSError) as error:
        raise UnreadableSoundError(_reason(error)) from error
    block = np.concatenate(blocks) if blocks else np.empty((0, channels), np.float32)
    if not np.isfinite(block).all():
        raise UnreadableSoundError("samples that are not finite")
    samples = block[:, 0] if channels == 1 else block.mean(axis=1, dtype=np.float64).astype(np.float32)
    cut = _missing_bytes(path)
    if not cut and len(block) < min(frames, MAX_LOOK_S * rate_hz):
        cut = f"{len(block)} of {frames} samples decode" + (f": {why}" if why else "")
    return np.ascontiguousarray(samples), rate_hz, channels, frames, cut


def _reason(error: Exception) -> str:
    """What libsndfile says, on one line."""
    text = " ".join(str(getattr(error, "error_string", "") or error).split())
    return text.removeprefix("Error : ").rstrip(".") or "no sound file"


def _missing_bytes(path: Path) -> str:
    """What a WAV header promises beyond the end of the file; libsndfile reads such a file without a word."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
            return ""
        size = path.stat().st_size
        while len(head := file.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"data":
                there = size - file.tell()
                # what a program writes that does not know the length yet is no promise
                return f"{there} of {length} bytes are there" if there < length < 0x7FFF0000 else ""
            file.seek(length + length % 2, 1)
    return ""


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
