"""Sound files: formats, rates, channels, damage."""

from __future__ import annotations

import itertools
import logging
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError, UsageError
from edgeai.sources.audio import open_audio
from edgeai.sources.audio_file import AudioFile
from edgeai.sources.resample import Resampler

SOUND = (0.5 * np.sin(np.arange(16_000) ** 1.5 / 300)).astype(np.float32)


def write(
    path: Path, sound: np.ndarray = SOUND, rate_hz: int = 16_000, subtype: str | None = "PCM_16"
) -> Path:
    soundfile.write(path, sound, rate_hz, subtype=subtype)
    return path


def read(path: Path, **options: int) -> np.ndarray:
    with AudioFile(path, stream="s", **options) as source:
        chunks = list(source)
    for before, after in itertools.pairwise(chunks):
        assert after.start_s == pytest.approx(before.start_s + len(before.samples) / before.sample_rate_hz)
    for chunk in chunks:
        assert chunk.samples.dtype == np.float32 and chunk.samples.ndim == 1 and chunk.stream == "s"
        assert np.abs(chunk.samples).max() <= 1
    return np.concatenate([chunk.samples for chunk in chunks]) if chunks else np.empty(0, np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_16", 1e-4),
        (".wav", "PCM_24", 1e-6),
        (".wav", "PCM_U8", 1e-2),
        (".wav", "FLOAT", 0),
        (".wav", "DOUBLE", 0),
        (".flac", "PCM_16", 1e-4),
        (".flac", "PCM_24", 1e-6),
        (".ogg", "VORBIS", 0.3),
        (".aiff", "PCM_16", 1e-4),
    ],
)
def test_every_format_gives_the_samples(tmp_path: Path, suffix: str, subtype: str, tolerance: float) -> None:
    got = read(write(tmp_path / f"sound{suffix}", subtype=subtype))
    assert len(got) == len(SOUND)
    np.testing.assert_allclose(got, SOUND, atol=tolerance)


@pytest.mark.parametrize("chunk_samples", [1, 160, 1600, 15_999, 16_000, 1 << 20])
def test_chunks_have_the_length_that_was_asked(tmp_path: Path, chunk_samples: int) -> None:
    path = write(tmp_path / "a.wav", SOUND[:3000])
    with AudioFile(path, stream="s", chunk_samples=chunk_samples) as source:
        lengths = [len(chunk.samples) for chunk in source]
    assert sum(lengths) == 3000
    assert all(length == chunk_samples for length in lengths[:-1]) and 0 < lengths[-1] <= chunk_samples


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 44_100, 48_000, 96_000])
def test_another_rate_is_resampled_as_a_whole(tmp_path: Path, rate_hz: int) -> None:
    got = read(write(tmp_path / "a.wav", rate_hz=rate_hz, subtype="FLOAT"))
    resampler = Resampler(rate_hz, 16_000)
    wanted = np.concatenate((resampler.push(SOUND), resampler.flush()))
    assert got.tobytes() == np.clip(wanted, -1, 1).tobytes()


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    seven = np.stack([SOUND * k / 7 for k in range(7)], axis=1)
    path = write(tmp_path / "seven.wav", seven, subtype="FLOAT")
    np.testing.assert_allclose(read(path), SOUND * 3 / 7, atol=1e-6)
    np.testing.assert_array_equal(read(path, channel=6), seven[:, 6])
    with pytest.raises(SourceFormatError, match="has 7 channels, none is number 7; choose 0 to 6"):
        AudioFile(path, stream="s", channel=7).open()


def test_a_source_can_be_read_again_and_closed_twice(tmp_path: Path) -> None:
    with AudioFile(write(tmp_path / "a.flac"), stream="s") as source:
        first = [chunk.samples.tobytes() for chunk in source]
        assert [chunk.samples.tobytes() for chunk in source] == first
        assert source.duration_s == 1.0
    source.close()
    with pytest.raises(SourceError, match="is not open; use it in a with block"):
        next(iter(source))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for _ in range(120):
            file.write(np.zeros((48_000, 2), np.int16))
    tracemalloc.start()
    try:
        with AudioFile(path, stream="s") as source:
            assert sum(len(chunk.samples) for chunk in source) == 120 * 16_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_missing_file() -> None:
    with pytest.raises(SourceMissingError, match=r"no sound file 'nowhere\.wav'"):
        open_audio("nowhere.wav", stream="s").open()


@pytest.mark.parametrize(
    "content", [b"x", b"not audio at all" * 50, b"RIFF\x00\x00\x00\x00WAVE", b"fLaC" + bytes(60)]
)
def test_what_is_no_sound_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(SourceFormatError, match="is not a sound file that can be read"):
        AudioFile(path, stream="s").open()


def test_an_empty_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(SourceFormatError, match="is empty, 0 bytes"):
        AudioFile(tmp_path / "empty.wav", stream="s").open()
    with pytest.raises(SourceFormatError, match="not a regular file"):
        AudioFile(tmp_path, stream="s").open()
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(SourceFormatError, match="not a regular file"):
        AudioFile(tmp_path / "pipe.wav", stream="s").open()


@pytest.mark.parametrize(
    ("suffix", "subtype"), [(".wav", "PCM_16"), (".flac", "PCM_16"), (".aiff", "PCM_16")]
)
def test_a_truncated_file_gives_what_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, subtype: str
) -> None:
    whole = write(tmp_path / f"a{suffix}", subtype=subtype).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with caplog.at_level(logging.WARNING), AudioFile(path, stream="s") as source:
        got = np.concatenate([chunk.samples for chunk in source])
        assert source.truncated
    assert 3200 <= len(got) < 16_000
    np.testing.assert_allclose(got, SOUND[: len(got)], atol=1e-4)
    [record] = caplog.records
    assert "ends early, after 0." in record.message


def test_a_whole_file_and_a_length_written_before_it_was_known_are_not_truncated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "piped.wav")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[4:8] = content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read(path)) == 16_000
    assert not caplog.records


def test_no_samples_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read(write(tmp_path / "none.wav", SOUND[:0]))) == 0
    assert [record.message.endswith("none.wav' holds no audio") for record in caplog.records] == [True]


def test_nan_counts_as_silence_and_loud_samples_are_clipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = SOUND.copy()
    sound[[10, 5000]] = np.nan, -np.inf
    sound[[20, 6000, 15_000]] = 7, -1e30, 1.5
    with AudioFile(write(tmp_path / "a.wav", sound, subtype="FLOAT"), stream="s") as source:
        got = np.concatenate([chunk.samples for chunk in source])
    assert got[[10, 5000]].tolist() == [0, 0] and got[[20, 6000, 15_000]].tolist() == [1, -1, 1]
    assert source.nonfinite_samples == 2 and source.clipped_samples == 3
    assert len(caplog.records) == 2, "one line each"


@pytest.mark.parametrize("rate_hz", [1, 3999, 400_000, 1_000_000_000])
def test_a_rate_beyond_reason_is_refused(tmp_path: Path, rate_hz: int) -> None:
    content = bytearray(write(tmp_path / "a.wav").read_bytes())
    content[24:28] = rate_hz.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(SourceFormatError, match=rf"claims {rate_hz} samples a second"):
        AudioFile(tmp_path / "a.wav", stream="s").open()


def test_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="chunk_samples must be at least 1, got 0"):
        AudioFile("a.wav", stream="s", chunk_samples=0)


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("rtsp://camera/1", SourceFormatError, "cannot tell what kind of audio.*mic:<name or index>"),
        (__file__, SourceFormatError, r"a file ending in \.wav"),
        ("nowhere", SourceMissingError, "use mic for the microphone"),
    ],
)
def test_an_address_that_means_nothing(uri: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_audio(uri, stream="s")


def test_a_file_address_with_an_escaped_space(tmp_path: Path) -> None:
    path = write(tmp_path / "a word.WAV")
    with open_audio(path.as_uri(), stream="s", sample_rate_hz=8000) as source:
        assert sum(len(chunk.samples) for chunk in source) == 8000
