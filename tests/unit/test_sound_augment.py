"""Augmented clips: length, bounds, the same seed the same clip; masks and mixing within limits."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.speech import SpeechSet
from compress.train.fit import FitSettings
from compress.train.sound_augment import SoundAugment, augment_clip, mask_features
from compress.train.tasks import KeywordTask
from edgeai.bundle.manifest import LogMelInput

RATE = 16000


def tone(samples, level=0.5):
    return (level * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)).astype(np.float32)


def augmented(clip, seed, noises=(), **changes):
    return augment_clip(
        clip,
        list(noises),
        sample_rate_hz=RATE,
        settings=SoundAugment(**changes),
        rng=np.random.default_rng(seed),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9000), st.floats(0, 1), st.booleans())
@settings(max_examples=80)
def test_length_bounds_and_repeatability(seed, samples, level, short_noise):
    clip = tone(samples, level)
    noises = [tone(100 if short_noise else 20000)]
    out = augmented(clip, seed, noises, echo=0.5)
    assert out.shape == clip.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    np.testing.assert_array_equal(out, augmented(clip, seed, noises, echo=0.5))


def test_the_clip_itself_is_never_written_to():
    clip = tone(8000)
    before = clip.copy()
    augmented(clip, 0, echo=1.0, noise=1.0)
    np.testing.assert_array_equal(clip, before)


def test_without_any_change_the_clip_stays():
    still = {"speed": (1, 1), "shift_s": 0, "gain_db": (0, 0), "noise": 0, "echo": 0}
    np.testing.assert_allclose(augmented(tone(8000), 0, **still), tone(8000), atol=1e-6)


def test_noise_has_the_asked_for_level():
    clip = tone(16000, 0.1)
    still = {"speed": (1, 1), "shift_s": 0, "gain_db": (0, 0), "echo": 0}
    noisy = augmented(clip, 1, **still, noise=1.0, noise_db=(10.0, 10.0))
    ratio_db = 10 * np.log10(np.mean(clip**2) / np.mean((noisy - clip) ** 2))
    assert ratio_db == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("shape", [(98, 40), (3, 4), (1, 1)])
def test_masks_are_the_floor_and_bounded(shape):
    features = np.zeros(shape, np.float32)
    mask_features(features, settings=SoundAugment(), rng=np.random.default_rng(0))
    assert set(np.unique(features)) <= {-1.0, 0.0}


def test_batches_have_unit_targets_and_repeat_with_the_seed(tmp_path):
    spec = LogMelInput(mels=8, frames=10)
    labels = ("a", "b", "c")
    paths = tuple(tmp_path / f"{name}.wav" for name in "wxyz")
    for path in paths:
        soundfile.write(path, tone(3360), 16000)
    class_ids = np.array([0, 0, 2, 2], np.int32)  # no "b" at all
    data = SpeechSet(labels, paths, class_ids, tuple("wxyz"), samples=3360)
    task = KeywordTask(data, spec, [], SoundAugment(), seed=3)
    make = task.batches(FitSettings(steps=1, batch=6)).make
    first, again = (make(np.random.default_rng(5)) for _ in range(2))
    assert first["inputs"].shape == (6, 10, 8, 1)
    assert np.abs(first["inputs"]).max() <= 1
    np.testing.assert_allclose(first["targets"].sum(1), 1, atol=1e-5)
    assert (first["targets"][:, 1] < 0.05).all(), "a label without clips is never the answer"
    np.testing.assert_array_equal(first["inputs"], again["inputs"])
