"""Accuracy of a keyword model, clip by clip, through the device's front end and engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet
from compress.measure.classes import one_score_a_label, softmax
from compress.measure.scored_classes import ScoredClasses, Trait
from edgeai.bundle.manifest import LogMelInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.errors import DataError
from edgeai.stages.audio.logmel import log_mel

# digital silence, told as this
_FLOOR_DB = -100.0


def score_keywords(
    engine: EdgeEngine, spec: LogMelInput, data: SpeechSet, *, activation: Literal["none", "softmax"] = "none"
) -> ScoredClasses:
    """What the model says about each clip, with the clip's loudness and signal-to-noise ratio.

    activation: what turns outputs into probabilities, as the bundle's decoder has it. Raises DataError where there are no clips.
    """
    if not len(data):
        raise DataError("there are no clips to measure accuracy on")
    scores = np.empty((len(data), len(data.labels)))
    levels = np.empty((len(data), 2))
    with progress_bar("clips", len(data)) as advance:
        for number in range(len(data)):
            clip = data.clip(number)
            scores[number] = score_clip(engine, spec, clip, data.labels)
            levels[number] = clip_levels_db(clip, sample_rate_hz=data.sample_rate_hz)
            advance(1)
    if activation == "softmax":
        scores = softmax(scores)
    names = tuple(f"{path.parent.name}/{path.name}" for path in data.paths)
    traits = level_traits(levels)
    return ScoredClasses(data.labels, names, data.groups, scores, data.class_ids, unit="clips", traits=traits)


def level_traits(levels_db: NDArray[np.float64]) -> tuple[Trait, Trait]:
    """By what clips are cut of which clip_levels_db says (N, 2)."""
    return (
        Trait("loudness", levels_db[:, 0], ("quiet", "middle", "loud"), "dBFS"),
        Trait("SNR", levels_db[:, 1], ("noisy", "middle", "clear"), "dB"),
    )


def score_clip(
    engine: EdgeEngine, spec: LogMelInput, clip: NDArray[np.float32], labels: Sequence[str]
) -> NDArray[Any]:
    """The engine's (K,) scores for a clip of one window. Raises DataError where these are not one a label."""
    given = engine.inputs[0]
    return one_score_a_label(engine.run({given.name: log_mel(clip, spec).reshape(given.shape)}), labels)


def clip_levels_db(clip: NDArray[np.float32], *, sample_rate_hz: int) -> tuple[float, float]:
    """(loudness in dB of full scale, RMS; a rough signal-to-noise ratio in dB) of a clip (N,).

    The ratio is between the loudest and the quietest tenth of its 20 ms frames, frames of padding left out: speech has pauses.
    NaN for a clip shorter than ten frames.
    """
    size = sample_rate_hz // 50
    frames = clip[: len(clip) // size * size].reshape(-1, size).astype(np.float64)
    energy = (frames**2).mean(axis=1)
    energy = energy[energy > 0]
    if not len(energy):
        return _FLOOR_DB, float("nan")
    loudness = max(_FLOOR_DB, 10 * float(np.log10(energy.mean())))
    if len(energy) < 10:
        return loudness, float("nan")
    low, high = np.percentile(energy, (10, 90))
    return loudness, 10 * float(np.log10(high / low))
