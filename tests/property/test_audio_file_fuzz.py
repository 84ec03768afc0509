"""Damaged and hostile sound files: samples within the range, or an EdgeError; never anything else, never a hang."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import EdgeError
from edgeai.sources.audio_file import AudioFile

pytestmark = pytest.mark.timeout(120)


def sound_file(kind: str, subtype: str, channels: int) -> bytes:
    sound = np.random.default_rng(6).uniform(-0.5, 0.5, (3000, channels))
    held = io.BytesIO()
    soundfile.write(held, sound, 16_000, format=kind, subtype=subtype)
    return held.getvalue()


SEEDS = [
    sound_file("WAV", "PCM_16", 1),
    sound_file("WAV", "FLOAT", 2),
    sound_file("WAV", "IMA_ADPCM", 1),
    sound_file("WAVEX", "PCM_24", 3),
    sound_file("FLAC", "PCM_16", 1),
    sound_file("OGG", "VORBIS", 1),
    sound_file("AIFF", "PCM_16", 1),
]
EXTREMES = st.sampled_from(
    (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f")
)


def check(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed.wav"
        path.write_bytes(content)
        try:
            with AudioFile(path, stream="s") as source:
                total = 0
                for chunk in source:
                    assert np.isfinite(chunk.samples).all() and np.abs(chunk.samples).max() <= 1
                    assert chunk.start_s == total / 16_000
                    total += len(chunk.samples)
        except EdgeError as error:
            assert "\n" not in str(error)


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=150)
def test_changed_header_bytes(seed: bytes, changes: list[tuple[int, int]]) -> None:
    content = bytearray(seed)
    for place, value in changes:
        content[place] = value
    check(bytes(content))


@given(seed=st.sampled_from(SEEDS), place=st.integers(0, 100), value=EXTREMES)
@settings(max_examples=100)
def test_extreme_sizes_and_counts(seed: bytes, place: int, value: bytes) -> None:
    check(seed[:place] + value + seed[place + len(value) :])


@given(seed=st.sampled_from(SEEDS), length=st.floats(0, 1), tail=st.binary(max_size=64))
@settings(max_examples=80)
def test_files_cut_anywhere_with_anything_behind(seed: bytes, length: float, tail: bytes) -> None:
    check(seed[: int(length * len(seed))] + tail)


@given(content=st.binary(max_size=300))
@settings(max_examples=60)
def test_bytes_that_never_were_a_sound_file(content: bytes) -> None:
    check(content)
    check(b"RIFF" + content)
    check(b"fLaC" + content)
