"""Sound files as a source of chunks: whatever libsndfile reads, at any rate, with any number of channels."""

from __future__ import annotations

import logging
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError, UsageError
from edgeai.sources.resample import MAX_RATE_HZ, MIN_RATE_HZ, Resampler
from edgeai.sources.source import Source
from edgeai.types import Chunk

if TYPE_CHECKING:
    import soundfile

_log = logging.getLogger(__name__)

# libsndfile tells of a data chunk that its header claims to be longer than the file: "data : 32000 (should be 15978)"
_SHORT_DATA = re.compile(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# sizes that programs write which do not know the length yet (a recording through a pipe): 2^31 and above
_UNKNOWN_LENGTH = 0x7FFF0000


class AudioFile(Source[Chunk]):
    """WAV, FLAC, Ogg and what else libsndfile knows, as chunks of `chunk_samples` (the last may be shorter).

    Several channels are averaged, or `channel` (from 0) is taken. Another rate than sample_rate_hz is resampled.
    called: what messages say it is, the path where absent.
    Memory does not grow with the file. Each of these is one warning in the log, not an error: a file that ends
    early (the readable part is given, `truncated` is set), no samples at all, NaN or infinite samples (given as 0),
    samples beyond -1..1 (clipped).

    Raises at opening SourceMissingError, or SourceFormatError for what is no sound file, has no such channel or a
    rate outside 4 to 384 kHz; while reading SourceFormatError where not one sample can be decoded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        stream: str,
        chunk_samples: int = 1600,
        sample_rate_hz: int = 16_000,
        channel: int | None = None,
        called: str | None = None,
    ) -> None:
        if chunk_samples < 1:
            raise UsageError(f"chunk_samples must be at least 1, got {chunk_samples}")
        self.path = Path(path)
        self._called = called or repr(str(self.path))
        self.stream = stream
        self.chunk_samples = chunk_samples
        self.sample_rate_hz = sample_rate_hz
        self.channel = channel
        self.truncated = False
        self.nonfinite_samples = 0
        self.clipped_samples = 0
        self._file: soundfile.SoundFile | None = None

    @property
    def duration_s(self) -> float:
        """How long the open file says it is."""
        file = self._opened()
        return float(file.frames / file.samplerate)

    @property
    def channels(self) -> int:
        """How many channels the open file says it has."""
        return int(self._opened().channels)

    def open(self) -> None:
        if self._file is not None:
            return
        if not self.path.exists():
            raise SourceMissingError(f"no sound file {self._called}", next_step="check the path")
        if not self.path.is_file():  # libsndfile would wait for ever on a named pipe
            raise SourceFormatError(f"{self._called} is not a regular file")
        if self.path.stat().st_size == 0:
            raise SourceFormatError(f"{self._called} is empty, 0 bytes", next_step="record or copy it again")
        soundfile = _load_soundfile()
        try:
            with self.path.open("rb"):  # libsndfile's own message for a forbidden file is "System error"
                pass
            file = soundfile.SoundFile(str(self.path))
        except OSError as error:
            raise SourceError(f"cannot read {self._called}: {error.strerror or error}") from error
        except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
            raise SourceFormatError(
                f"{self._called} is not a sound file that can be read: {_reason(error)}",
                next_step=f"convert it: `ffmpeg -i IN -ar {self.sample_rate_hz} -ac 1 OUT.wav`",
            ) from error
        try:
            self._check(file)
        except SourceFormatError:
            file.close()
            raise
        self._file = file

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks from the file's beginning."""
        self._opened()
        given = 0
        held = np.empty(0, np.float32)
        for samples in self._resampled():
            held = np.concatenate((held, samples))
            whole = len(held) - len(held) % self.chunk_samples
            for begin in range(0, whole, self.chunk_samples):
                yield self._chunk(held[begin : begin + self.chunk_samples].copy(), given)
                given += self.chunk_samples
            held = held[whole:]
        if len(held):
            yield self._chunk(held, given)
        elif not given:
            _log.warning("%s holds no audio", self._called)

    def _chunk(self, samples: NDArray[np.float32], given: int) -> Chunk:
        return Chunk(samples, self.sample_rate_hz, given / self.sample_rate_hz, self.stream)

    def _resampled(self) -> Iterator[NDArray[np.float32]]:
        """Runs of any length, mono, at sample_rate_hz, finite, -1..1."""
        resampler = Resampler(self._opened().samplerate, self.sample_rate_hz)
        for block in self._blocks():
            # clipped again: a filter overshoots where the input was at full scale
            yield np.clip(resampler.push(self._mono(block)), -1, 1)
        yield np.clip(resampler.flush(), -1, 1)

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        """(n, channels) as the file has them, until its end or until nothing more can be decoded."""
        file = self._opened()
        soundfile = _load_soundfile()
        self.truncated = False
        self.nonfinite_samples = self.clipped_samples = 0
        read = 0
        reason = self._length_fault(file)
        frames = max(256, min(1 << 16, self.chunk_samples * file.samplerate // self.sample_rate_hz))
        try:
            if file.seekable():
                file.seek(0)
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                read += len(block)
                yield block
        except (soundfile.SoundFileError, RuntimeError) as error:
            if self._file is None:  # closed by the reader meanwhile
                return
            reason = _reason(error)
            if not read:
                raise SourceFormatError(f"{self._called} cannot be decoded: {reason}") from error
        if reason:
            self.truncated = True
            _log.warning("%s ends early, after %.2f s: %s", self._called, read / file.samplerate, reason)

    def _mono(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        samples = block[:, self.channel] if self.channel is not None else mix_to_mono(block)
        samples, bad, loud = bound_samples(samples)
        if bad and not self.nonfinite_samples:
            _log.warning("%s holds samples that are not finite; they count as 0", self._called)
        if loud and not self.clipped_samples:
            _log.warning("%s holds samples beyond -1..1; they are clipped", self._called)
        self.nonfinite_samples += bad
        self.clipped_samples += loud
        return samples

    def _check(self, file: soundfile.SoundFile) -> None:
        if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
            raise SourceFormatError(
                f"{self._called} claims {file.samplerate} samples a second, "
                f"readable are {MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        if self.channel is not None and not 0 <= self.channel < file.channels:
            raise SourceFormatError(
                f"{self._called} has {file.channels} channels, none is number {self.channel}",
                next_step=f"choose 0 to {file.channels - 1}, or none for their mean",
            )

    @staticmethod
    def _length_fault(file: soundfile.SoundFile) -> str:
        """Why the file is shorter than its header says; empty where it is not."""
        found = _SHORT_DATA.search(file.extra_info)
        if found and int(found[2]) < int(found[1]) < _UNKNOWN_LENGTH:
            return f"the header promises {found[1]} bytes of samples, {found[2]} are there"
        return ""

    def _opened(self) -> soundfile.SoundFile:
        if self._file is None:
            raise SourceError(
                f"the sound file {self._called} is not open", next_step="use it in a with block"
            )
        return self._file


def mix_to_mono(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels: (n, channels) -> (n,) float32."""
    if block.shape[1] == 1:
        return block[:, 0]
    return np.asarray(block.mean(axis=1, dtype=np.float64), np.float32)


def bound_samples(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], int, int]:
    """(samples within -1..1, how many were NaN or infinite and became 0, how many were clipped)."""
    peak = np.abs(samples).max(initial=0.0)  # NaN where there is one
    if peak <= 1.0:
        return samples, 0, 0
    finite = np.isfinite(samples)
    clean = np.where(finite, samples, np.float32(0))
    loud = int(np.count_nonzero(np.abs(clean) > 1))
    return np.clip(clean, -1, 1), int(np.count_nonzero(~finite)), loud


def _load_soundfile() -> types.ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise SourceError(
            f"sound files need the soundfile package and libsndfile: {error}",
            next_step="`pip install soundfile`, on Debian also `apt-get install libsndfile1`",
        ) from error
    module: types.ModuleType = soundfile
    return module


def _reason(error: BaseException) -> str:
    """What libsndfile says, without the path, on one line."""
    text = " ".join(str(getattr(error, "error_string", "") or error).split())
    return text.removeprefix("Error : ").rstrip(".") or type(error).__name__
