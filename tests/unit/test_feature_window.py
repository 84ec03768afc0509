"""When windows come, what time they carry, and that none spans a gap."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.logmel import log_mel
from edgeai.stages.audio.window import FeatureWindow
from edgeai.types import Chunk

SPEC = LogMelInput(
    scale=14.0
)  # 49 frames, 480 samples, hop 320: the first window is full after 15840 samples
NOISE = (0.1 * np.random.default_rng(3).standard_normal(48_000)).astype(np.float32)


def chunk(begin: int, end: int, *, shift_s: float = 0.0) -> Chunk:
    return Chunk(NOISE[begin:end], 16_000, begin / 16_000 + shift_s, "mic")


def test_the_first_window_comes_with_its_last_sample() -> None:
    window = FeatureWindow(SPEC, 5)
    assert window.push(chunk(0, 15_839)) == []
    [(end_s, features)] = window.push(chunk(15_839, 15_840))
    assert end_s == 15_840 / 16_000
    assert features.tobytes() == log_mel(NOISE[:15_840], SPEC).tobytes()


def test_windows_come_every_step() -> None:
    window = FeatureWindow(SPEC, 5)
    ends = [end_s for end_s, _ in window.push(chunk(0, 48_000, shift_s=10.0))]
    assert ends == pytest.approx([10.99 + 0.1 * i for i in range(21)])


def test_a_step_longer_than_the_window_leaves_frames_out() -> None:
    spec = LogMelInput(scale=14.0, frames=4)
    ends = [end_s for end_s, _ in FeatureWindow(spec, 20).push(chunk(0, 16_000))]
    assert ends == pytest.approx([0.09, 0.49, 0.89])


def test_after_a_gap_the_window_fills_afresh() -> None:
    window = FeatureWindow(SPEC, 1)
    assert len(window.push(chunk(0, 16_000))) == 1
    assert window.push(chunk(20_000, 30_000)) == []
    got = window.push(chunk(30_000, 36_000))
    assert window.gaps == 1
    assert got[0][0] == pytest.approx((20_000 + 15_840) / 16_000)
    assert got[0][1].tobytes() == log_mel(NOISE[20_000:35_840], SPEC).tobytes()


def test_jitter_below_half_a_hop_is_no_gap() -> None:
    window = FeatureWindow(SPEC, 1)
    window.push(chunk(0, 8000))
    assert len(window.push(chunk(8000, 15_840, shift_s=0.009))) == 1
    assert window.gaps == 0


def test_the_caller_owns_the_windows() -> None:
    window = FeatureWindow(SPEC, 1)
    first = window.push(chunk(0, 15_840))[0][1]
    first[:] = 7
    second = window.push(chunk(15_840, 16_160))[0][1]
    assert second.tobytes() == log_mel(NOISE[320:16_160], SPEC).tobytes()


def test_reset_begins_a_new_stream() -> None:
    window = FeatureWindow(SPEC, 1)
    window.push(chunk(0, 15_000))
    window.reset()
    [(end_s, _)] = window.push(chunk(0, 15_840))
    assert end_s == 15_840 / 16_000 and window.gaps == 0


def test_another_rate_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        StageError, match=r"'mic' is at 48000 Hz.*trained at 16000 Hz; open the source with sample_rate"
    ):
        FeatureWindow(SPEC).push(Chunk(NOISE, 48_000, 0.0, "mic"))


def test_a_step_of_nothing_is_refused() -> None:
    with pytest.raises(StageError, match="step_frames must be at least 1, got 0"):
        FeatureWindow(SPEC, 0)
