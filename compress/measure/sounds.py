"""Spellers and autoencoders on clips, through the device's front end and engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compress.data.speech import SpeechSet
from compress.data.spelling import spell
from compress.measure.scored_sounds import ScoredAnomalies, ScoredTranscripts
from compress.train.ctc_loss import greedy_decode
from edgeai.bundle.manifest import LogMelInput
from edgeai.console import progress_bar
from edgeai.engines import EdgeEngine
from edgeai.stages.audio.logmel import log_mel, samples_for

# how many windows of the model's length a clip is taken to hold; a shorter one is padded
WINDOWS = 8


def score_speller(
    engine: EdgeEngine, spec: LogMelInput, symbols: Sequence[str], data: SpeechSet
) -> ScoredTranscripts:
    """What greedy decoding makes of each clip, through the device's front end."""
    name, shape = engine.inputs[0].name, engine.inputs[0].shape
    said: list[list[int]] = []
    with progress_bar("symbol errors", len(data)) as advance:
        for number in range(len(data)):
            (logits,) = engine.run({name: log_mel(data.clip(number), spec).reshape(shape)}).values()
            said += greedy_decode(logits)
            advance(1)
    wanted = [spell(data.labels[k], symbols) for k in data.class_ids]
    names = [path.name for path in data.paths]
    return ScoredTranscripts(symbols, names, data.groups, said, wanted)


def score_autoencoder(engine: EdgeEngine, spec: LogMelInput, data: SpeechSet) -> ScoredAnomalies:
    """The mean squared rebuilding error over each clip's windows, label 0 being the normal sound."""
    errors = np.empty(len(data), np.float64)
    with progress_bar("AUC", len(data)) as advance:
        for number in range(len(data)):
            errors[number] = rebuilding_errors(engine, spec, data.clip(number)).mean()
            advance(1)
    names = [path.name for path in data.paths]
    return ScoredAnomalies(data.labels, names, data.groups, errors, data.class_ids)


def rebuilding_errors(
    engine: EdgeEngine, spec: LogMelInput, clip: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The mean squared error of each whole window of a clip, one beside the other; (windows,)."""
    name, shape = engine.inputs[0].name, engine.inputs[0].shape
    samples = samples_for(spec.frames, spec)
    errors = []
    for start in range(0, len(clip) - samples + 1, samples):
        features = log_mel(clip[start : start + samples], spec).reshape(shape)
        (rebuilt,) = engine.run({name: features}).values()
        errors.append(float(np.mean(np.square(rebuilt - features))))
    return np.array(errors, np.float64)
