"""A keyword teacher as a black box: MLPerf Tiny's DS-CNN, with the front end that it was trained on.

The front end follows MLPerf Tiny's keyword-spotting benchmark (github.com/mlcommons/tiny, Apache-2.0): samples divided by
their largest magnitude, 49 frames of 480 samples every 320, periodic Hann, FFT of 512, magnitudes, 40 HTK mel bands from
20 to 4000 Hz, ln(x + 1e-6), the first 10 DCT-II coefficients.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import DataMissingError, RecipeError

Floats = NDArray[np.float32]
_SAMPLES = 16_000
_LABELS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "silence", "unknown")


class SpeechTeacher:
    """Gives (B, K) probabilities, in the order of `labels`, for (B, 16000) clips at 16 kHz. Any thread may call.

    Raises DataMissingError where the file is absent, RecipeError for labels that it does not know.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        if not path.is_file():
            raise DataMissingError(
                f"no teacher at {path}", next_step="name another in the recipe's [speech_teacher]"
            )
        unknown = [label for label in labels if label not in _LABELS]
        if unknown:
            raise RecipeError(
                f"teacher {path.name} does not know {unknown[0]!r}; it knows {', '.join(_LABELS)}"
            )
        self._path = path
        self._order = [_LABELS.index(label) for label in labels]
        self._own = threading.local()

    def __call__(self, clips: Floats) -> Floats:
        if clips.ndim != 2 or clips.shape[1] != _SAMPLES:
            raise RecipeError(
                f"teacher {self._path.name} hears clips of {_SAMPLES} samples, got {clips.shape}"
            )
        runner = self._runner(len(clips))
        runner.set_tensor(runner.get_input_details()[0]["index"], mfcc(clips)[..., np.newaxis])
        runner.invoke()
        probabilities: Floats = runner.get_tensor(runner.get_output_details()[0]["index"])
        return probabilities[:, self._order]

    def _runner(self, batch: int) -> Any:
        """An interpreter for this thread and batch size."""
        from ai_edge_litert.interpreter import Interpreter

        if getattr(self._own, "batch", None) != batch:
            runner = Interpreter(model_path=str(self._path), num_threads=1)
            runner.resize_tensor_input(runner.get_input_details()[0]["index"], [batch, 49, 10, 1])
            runner.allocate_tensors()
            self._own.runner, self._own.batch = runner, batch
        return self._own.runner


def mfcc(clips: Floats) -> Floats:
    """(B, 16000) samples to (B, 49, 10) coefficients, by TensorFlow's own signal operations."""
    return np.asarray(_mfcc_graph()(clips).numpy(), np.float32)


@functools.cache
def _mfcc_graph() -> Any:
    """One graph for any number of clips: operation by operation it takes a third of the time of a training batch."""
    import tensorflow as tf

    mel = tf.signal.linear_to_mel_weight_matrix(40, 257, _SAMPLES, 20.0, 4000.0).numpy()

    @tf.function(  # type: ignore[untyped-decorator, unused-ignore]
        autograph=False, input_signature=[tf.TensorSpec((None, _SAMPLES), tf.float32)]
    )
    def graph(clips: Any) -> Any:
        peak = tf.reduce_max(tf.abs(clips), axis=1, keepdims=True)
        spectrum = tf.abs(
            tf.signal.stft(clips / tf.maximum(peak, 1e-9), 480, 320, 512, window_fn=tf.signal.hann_window)
        )
        log_mel = tf.math.log(tf.tensordot(spectrum, tf.constant(mel), 1) + 1e-6)
        return tf.signal.mfccs_from_log_mel_spectrograms(log_mel)[..., :10]

    return graph
