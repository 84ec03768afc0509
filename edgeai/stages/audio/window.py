"""The model's window: the newest `frames` feature vectors, handed over every so many frames, with their time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.logmel import LogMel
from edgeai.types import Chunk


class FeatureWindow:
    """Chunks in; (end_time_s, features) out, once the window is full and then every `step_frames` frames.

    Features are (1, frames, mels) float32, -1..1, an array of the caller's own. end_time_s is the end of the last
    sample under the last frame, on the clock of Chunk.start_s; it is counted in samples, so it does not depend on
    how the stream was cut. Where a chunk does not follow the one before (audio was lost, a microphone came back),
    the window starts afresh: features never span a gap. `gaps` counts them.
    """

    def __init__(self, spec: LogMelInput, step_frames: int = 1) -> None:
        if step_frames < 1:
            raise StageError(f"step_frames must be at least 1, got {step_frames}")
        self.spec = spec
        self.step_frames = step_frames
        self.gaps = 0
        self._log_mel = LogMel(spec)
        self._held = np.empty((0, spec.mels), np.float32)
        self._dropped = 0  # frames of this stream before _held[0]
        self._wait = 0  # frames of _held to leave out before the next window begins
        self._origin_s = 0.0
        self._next_start_s: float | None = None

    @property
    def nonfinite_samples(self) -> int:
        """How many NaN or infinite samples were taken as 0."""
        return self._log_mel.nonfinite_samples

    def push(self, chunk: Chunk) -> list[tuple[float, NDArray[np.float32]]]:
        """The windows that `chunk` completes, oldest first; often none.

        Raises StageError for a chunk of another sample rate than the model's, or of samples that are not (N,) float.
        """
        rate_hz = self.spec.sample_rate_hz
        if chunk.sample_rate_hz != rate_hz:
            raise StageError(
                f"stream {chunk.stream!r} is at {chunk.sample_rate_hz} Hz, the model was trained at {rate_hz} Hz",
                next_step=f"open the source with sample_rate_hz={rate_hz}",
            )
        self._follow(chunk)
        features = self._log_mel.push(chunk.samples)
        self._next_start_s = chunk.start_s + len(chunk.samples) / rate_hz
        self._held = np.concatenate((self._held, features))
        windows: list[tuple[float, NDArray[np.float32]]] = []
        spec = self.spec
        while len(self._held) - self._wait >= spec.frames:
            begin = self._wait
            last = self._dropped + begin + spec.frames - 1
            end_s = self._origin_s + (last * spec.hop_samples + spec.window_samples) / rate_hz
            windows.append((end_s, self._held[np.newaxis, begin : begin + spec.frames].copy()))
            self._wait += self.step_frames
        drop = min(self._wait, len(self._held))
        self._held = self._held[drop:]
        self._dropped += drop
        self._wait -= drop
        return windows

    def reset(self) -> None:
        """Forget everything: the next chunk begins a new stream."""
        self._log_mel.reset()
        self._held = np.empty((0, self.spec.mels), np.float32)
        self._dropped = self._wait = 0
        self._origin_s = 0.0
        self._next_start_s = None

    def _follow(self, chunk: Chunk) -> None:
        """Start afresh where `chunk` begins more than half a hop away from the end of the one before."""
        tolerance_s = self.spec.hop_samples / self.spec.sample_rate_hz / 2
        if self._next_start_s is not None:
            if abs(chunk.start_s - self._next_start_s) <= tolerance_s:
                return
            self.gaps += 1
            self.reset()
        self._origin_s = chunk.start_s
