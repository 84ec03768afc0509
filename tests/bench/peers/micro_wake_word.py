"""microWakeWord (PyPI pymicro-wakeword) on recordings: its own front end, engine, window and threshold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.data.speech import read_clip
from compress.measure.wake_word import ScoredWakeWord, rises
from edgeai.console import progress_bar

RATE_HZ = 16_000
# it starts from nothing with each recording: quiet before it, as its authors measure, and a little behind
QUIET_S, TAIL_S = 2.0, 0.5
# of a threshold, below which our own may fire again: the same for both
REARM = 0.5


def score_micro_wake_word(settings: Path, like: ScoredWakeWord) -> ScoredWakeWord:
    """What the model of `settings` (its JSON) makes of the recordings that `like` was scored on."""
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

    peer = MicroWakeWord.from_config(settings)
    peaks, false_peaks = np.zeros(len(like)), []
    with progress_bar("microWakeWord", len(like)) as advance:
        for number, path in enumerate(like.paths):
            clip = read_clip(path, sample_rate_hz=RATE_HZ)
            sound = np.concatenate([np.zeros(int(QUIET_S * RATE_HZ)), clip, np.zeros(int(TAIL_S * RATE_HZ))])
            pcm = np.clip(np.rint(sound * 32767), -32768, 32767).astype("<i2").tobytes()
            peer.reset()
            features = MicroWakeWordFeatures()
            told = [peer.process_streaming_prob(row) or 0.0 for row in features.process_streaming(pcm)]
            # it runs once in so many rows, and says 0 at those between
            scores = np.array(told[peer.stride - 1 :: peer.stride])
            peaks[number] = scores.max(initial=0.0)
            if not like.is_word[number]:
                false_peaks += rises(scores, REARM * peer.probability_cutoff)
            advance(1)
    # it fires above its threshold, ours from it on
    threshold = float(np.nextafter(peer.probability_cutoff, 1))
    peer.close()
    return replace(like, peaks=peaks, false_peaks=np.array(false_peaks), threshold=threshold)
