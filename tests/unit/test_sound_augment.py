"""Augmented clips: length, bounds, the same seed the same clip; masks, rooms and noise as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.train.batch_features import log_mel_features
from compress.train.sound_augment import (
    SoundAugment,
    augment_clip,
    augment_clips,
    mask_features,
    mask_features_batch,
)
from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import DataError, StageError
from edgeai.stages.audio.logmel import log_mel_batch

RATE = 16000
STILL = {
    "speed": (1, 1),
    "shift_s": 0,
    "gain_db": (0, 0),
    "noise": 0,
    "room": 0,
    "microphone": 0,
    "overdrive": 0,
    "telephone": 0,
}
EVERYTHING = {"noise": 1.0, "room": 1.0, "microphone": 0.5, "telephone": 0.5, "overdrive": 0.5}


def tone(samples, level=0.5, hz=440):
    return (level * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


def augmented(clip, seed, noises=(), **changes):
    return augment_clip(
        clip,
        list(noises),
        sample_rate_hz=RATE,
        settings=SoundAugment(**changes),
        rng=np.random.default_rng(seed),
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 9000), st.floats(0, 1), st.integers(0, 20000))
@settings(max_examples=40)
def test_length_bounds_and_repeatability(seed, samples, level, noise_samples):
    clip = tone(samples, level)
    noises = [tone(noise_samples)]
    out = augmented(clip, seed, noises, **EVERYTHING)
    assert out.shape == clip.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 1
    np.testing.assert_array_equal(out, augmented(clip, seed, noises, **EVERYTHING))


@pytest.mark.parametrize("shape", [(0, 16000), (3, 0), (0, 0)])
def test_no_clips_give_no_clips(shape):
    made = augment_clips(
        np.zeros(shape, np.float32),
        [],
        sample_rate_hz=RATE,
        settings=SoundAugment(),
        rng=np.random.default_rng(0),
    )
    assert made.shape == shape


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_silence_stays_faint(chance):
    out = augmented(np.zeros(16000, np.float32), 3, noise=chance, room=1.0, gain_db=(0, 0), overdrive=0)
    assert np.abs(out).max() < 0.05
    assert (np.abs(out).max() > 0) == (chance == 1), "noise is heard in silence too"


def test_stereo_is_refused():
    stereo = np.zeros((8000, 2), np.float32)
    with pytest.raises(DataError, match="mono"):
        augmented(stereo, 0)
    with pytest.raises(DataError, match="mono"):
        augmented(stereo[:, 0], 0, [stereo], noise=1.0, noise_db=(0, 0))


def test_the_clips_themselves_are_never_written_to():
    clip, noise = tone(8000), tone(16000, 0.2)
    before, noise_before = clip.copy(), noise.copy()
    for seed in range(8):
        augmented(clip, seed, [noise], **EVERYTHING)
    np.testing.assert_array_equal(clip, before)
    np.testing.assert_array_equal(noise, noise_before)


def test_without_any_change_the_clip_stays():
    np.testing.assert_allclose(augmented(tone(8000), 0, **STILL), tone(8000), atol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.25])
def test_speed_moves_a_tone_to_another_pitch_and_keeps_the_middle(factor):
    clip = tone(16000, hz=1000)
    out = augmented(clip, 0, **{**STILL, "speed": (factor, factor)})
    hz = np.argmax(np.abs(np.fft.rfft(out)))  # one bin a hertz
    assert hz == pytest.approx(1000 * factor, abs=2)
    loud = np.flatnonzero(np.abs(out) > 0.1)
    assert (loud[0] + loud[-1]) / 2 == pytest.approx(8000, abs=40)


def test_a_shift_moves_the_clip_as_far_as_asked_at_most():
    click = np.zeros(16000, np.float32)
    click[8000] = 1
    places = [int(np.argmax(augmented(click, s, **{**STILL, "shift_s": 0.1}))) for s in range(60)]
    assert max(abs(p - 8000) for p in places) <= 1600
    assert min(places) < 7000 and max(places) > 9000


@pytest.mark.parametrize("noises", [[], [tone(20000, 0.3, hz=97)]])
def test_noise_has_the_asked_for_level(noises):
    clip = tone(16000, 0.1)
    noisy = augmented(clip, 1, noises, **{**STILL, "noise": 1.0, "noise_db": (10.0, 10.0)})
    ratio_db = 10 * np.log10(np.mean(clip**2) / np.mean((noisy - clip) ** 2))
    assert ratio_db == pytest.approx(10, abs=0.2)


def test_a_room_rings_on_and_keeps_the_power_and_the_place():
    burst = np.zeros(16000, np.float32)
    burst[4000:6000] = np.random.default_rng(0).uniform(-0.5, 0.5, 2000)
    heard = [augmented(burst, seed, **{**STILL, "room": 1.0}) for seed in range(12)]
    for wet in heard:
        assert np.abs(wet[:4000]).max() < 1e-4, "an echo before the sound"
        power_db = 10 * np.log10(np.mean(wet**2) / np.mean(burst**2))
        assert abs(power_db) < 3
    tails = [np.square(wet[6400:]).sum() / np.square(wet).sum() for wet in heard]
    assert max(tails) > 0.02
    assert max(tails) > 3 * min(tails), "all rooms alike"


def test_a_telephone_line_passes_only_its_band():
    line = {**STILL, "telephone": 1.0}
    heard = {
        hz: float(np.std(augmented(tone(16000, 0.3, hz), 0, **line)[4000:12000])) for hz in (80, 1000, 6500)
    }
    assert heard[1000] == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert heard[80] < 0.1 * heard[1000] and heard[6500] < 0.15 * heard[1000]


def test_overdrive_cuts_flat():
    out = augmented(tone(16000, 0.01), 5, **{**STILL, "overdrive": 1.0})
    assert np.mean(np.abs(out) == 1) > 0.05


def test_a_batch_is_not_one_change_for_all():
    clips = np.stack([tone(8000)] * 16)
    made = augment_clips(
        clips, [], sample_rate_hz=RATE, settings=SoundAugment(), rng=np.random.default_rng(0)
    )
    assert len(np.unique(made, axis=0)) == 16


@pytest.mark.parametrize("shape", [(98, 40), (3, 4), (1, 1)])
def test_masks_are_the_floor_and_bounded(shape):
    features = np.zeros(shape, np.float32)
    mask_features(features, settings=SoundAugment(), rng=np.random.default_rng(0))
    assert set(np.unique(features)) <= {-1.0, 0.0}


def test_each_clip_of_a_batch_has_masks_of_its_own():
    features = np.zeros((20, 98, 40), np.float32)
    made = mask_features_batch(features, settings=SoundAugment(), rng=np.random.default_rng(0))
    assert made is features
    masked = features == -1
    assert len(np.unique(masked.reshape(20, -1), axis=0)) == 20
    assert masked.all(axis=2).sum(1).max() <= 2 * 10  # two bands of time
    assert masked.all(axis=1).sum(1).max() <= 2 * 6  # two of frequency
    assert masked.any(axis=(1, 2)).mean() > 0.9


@pytest.mark.parametrize(
    "spec",
    [
        LogMelInput(offset=-6.0, scale=9.0),
        LogMelInput(fft_size=512, floor=0.003, offset=1.5, scale=7.4),
        LogMelInput(
            window_samples=400, hop_samples=160, fft_size=400, mels=24, low_hz=0, high_hz=8000, scale=15
        ),
        LogMelInput(
            sample_rate_hz=8000,
            window_samples=240,
            hop_samples=80,
            fft_size=255,
            mels=12,
            high_hz=3900,
            scale=15,
        ),
    ],
)
def test_batch_features_are_the_devices(spec):
    rng = np.random.default_rng(0)
    clips = (rng.standard_normal((19, 4000)) * 10 ** rng.uniform(-4, -0.5, (19, 1))).astype(np.float32)
    clips[0, 7], clips[1] = np.nan, 0.0
    np.testing.assert_allclose(log_mel_features(clips, spec), log_mel_batch(clips, spec), rtol=0, atol=2e-6)
    tones = np.stack([tone(4000, level, hz) for hz in (100, 1000.3, 3333) for level in (1, 0.1)])
    np.testing.assert_allclose(log_mel_features(tones, spec), log_mel_batch(tones, spec), rtol=0, atol=4e-4)
    assert log_mel_features(clips[:, :100], spec).shape == (19, 0, spec.mels)
    with pytest.raises(StageError, match="mono"):
        log_mel_features(clips[0], spec)
