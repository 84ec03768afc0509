"""The microphone's own logic on a PortAudio that the test plays: devices, rates, gaps, overruns, ends."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeai.errors import SourceError, SourceMissingError, UsageError
from edgeai.sources import microphone as module
from edgeai.sources.audio import open_audio
from edgeai.sources.microphone import Microphone, find_microphone, list_microphones

OVERFLOW = SimpleNamespace(input_overflow=True)
NO_STATUS = SimpleNamespace(input_overflow=False)


class FakePortAudio(ModuleType):
    """Devices from a table; streams that the test feeds."""

    class PortAudioError(Exception):
        pass

    def __init__(self, *devices: tuple[str, int, float], rates: tuple[int, ...] = (48_000,)) -> None:
        super().__init__("sounddevice")
        self.rows = [
            {"name": name, "max_input_channels": inputs, "default_samplerate": rate}
            for name, inputs, rate in devices
        ]
        self.rates = rates
        self.default = SimpleNamespace(device=[0, 0])
        self.streams: list[FakeStream] = []
        self.start_fails = False

    def query_devices(self) -> list[dict[str, Any]]:
        return self.rows

    def InputStream(self, **wanted: Any) -> FakeStream:
        if wanted["samplerate"] not in self.rates:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.streams.append(FakeStream(self, **wanted))
        return self.streams[-1]


class FakeStream:
    def __init__(self, portaudio: FakePortAudio, **wanted: Any) -> None:
        self.portaudio, self.wanted, self.closed = portaudio, wanted, 0
        self.callback: Callable[..., None] = wanted["callback"]

    def start(self) -> None:
        if self.portaudio.start_fails:
            raise self.portaudio.PortAudioError("Device unavailable")

    def feed(self, samples: np.ndarray, status: object = NO_STATUS) -> None:
        block = np.array(samples, np.float32).reshape(len(samples), -1)
        self.callback(block, len(block), None, status)
        block[:] = 9  # PortAudio's buffer is its own

    def end(self) -> None:
        self.wanted["finished_callback"]()

    def close(self, ignore_errors: bool = True) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    portaudio = FakePortAudio(
        ("Speakers", 0, 48_000.0), ("USB Camera: Audio", 2, 48_000.0), ("USB Headset", 1, 44_100.0)
    )
    portaudio.default.device[0] = 2
    monkeypatch.setattr(module, "load_sounddevice", lambda: portaudio)
    return portaudio


def tone(samples: int, rate_hz: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate_hz)).astype(np.float32)


def take(source: Any, samples: int) -> list[Any]:
    chunks = []
    for chunk in source:
        chunks.append(chunk)
        if sum(len(c.samples) for c in chunks) >= samples:
            return chunks
    return chunks


def test_what_the_device_gives_arrives_resampled_and_in_order(fake: FakePortAudio) -> None:
    sound = tone(48_000, 48_000)
    with Microphone("camera", stream="hall") as source:
        [stream] = fake.streams
        assert stream.wanted["samplerate"] == 48_000 and stream.wanted["blocksize"] == 4800
        assert stream.wanted["device"] == 1 and stream.wanted["channels"] == 1
        for begin in range(0, 48_000, 4800):
            stream.feed(sound[begin : begin + 4800])
        chunks = take(source, 15_900)
    got = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_allclose(got[500:15_000], tone(16_000, 16_000)[500:15_000], atol=1e-3)
    given = 0
    for chunk in chunks:
        assert chunk.start_s == given / 16_000 and chunk.stream == "hall" and chunk.sample_rate_hz == 16_000
        given += len(chunk.samples)
    assert stream.closed == 1


def test_a_chosen_channel(fake: FakePortAudio) -> None:
    fake.rates = (16_000,)
    with Microphone(1, stream="s", channel=1) as source:
        [stream] = fake.streams
        assert stream.wanted["channels"] == 2
        stream.feed(np.stack([np.full(1600, 0.1), np.full(1600, 0.7)], axis=1))
        [chunk] = take(source, 1600)
    np.testing.assert_allclose(chunk.samples, 0.7)
    with pytest.raises(SourceError, match="has 2 channels, none is number 2; choose 0 to 1"):
        Microphone(1, stream="s", channel=2).open()


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [((16_000, 44_100, 48_000), 44_100), ((16_000,), 16_000), ((48_000,), 48_000), ((32_000,), 32_000)],
)
def test_the_devices_own_rate_is_preferred(fake: FakePortAudio, rates: tuple[int, ...], chosen: int) -> None:
    fake.rates = rates
    with Microphone("headset", stream="s") as source:
        assert source.device_rate_hz == chosen == fake.streams[0].wanted["samplerate"]


def test_blocks_that_nobody_took_are_counted_told_and_seen_in_the_time(
    fake: FakePortAudio, caplog: pytest.LogCaptureFixture
) -> None:
    fake.rates = (16_000,)
    with Microphone(2, stream="s") as source:
        [stream] = fake.streams
        for k in range(205):  # 20 s wait, 5 blocks are lost
            stream.feed(np.full(1600, k / 1000))
        waited = take(source, 200 * 1600)
        assert source.lost_samples == 5 * 1600
        stream.feed(np.full(1600, 0.9))
        [late] = take(source, 1)
    assert waited[-1].start_s == pytest.approx(19.9)
    assert late.start_s == pytest.approx(20.5) and late.samples[0] == pytest.approx(0.9)
    [record] = caplog.records
    assert record.levelno == logging.WARNING and "audio was lost" in record.message


def test_overruns_of_the_driver_are_counted(fake: FakePortAudio, caplog: pytest.LogCaptureFixture) -> None:
    fake.rates = (16_000,)
    with Microphone(2, stream="s") as source:
        for status in (OVERFLOW, NO_STATUS, OVERFLOW):
            fake.streams[0].feed(np.zeros(1600), status)
        take(source, 4800)
        assert source.overruns == 2
    assert len(caplog.records) == 1


def test_samples_that_are_not_finite_count_as_silence(fake: FakePortAudio) -> None:
    fake.rates = (16_000,)
    with Microphone(2, stream="s") as source:
        fake.streams[0].feed(np.array([0.5, np.nan, np.inf, 3.0]))
        [chunk] = take(source, 4)
        assert chunk.samples.tolist() == [0.5, 0, 0, 1] and source.nonfinite_samples == 2


def test_a_device_that_ends_is_an_error_after_its_last_block(fake: FakePortAudio) -> None:
    fake.rates = (16_000,)
    with Microphone("USB Headset", stream="s") as source:
        fake.streams[0].feed(np.zeros(1600))
        fake.streams[0].end()
        chunks = iter(source)
        assert len(next(chunks).samples) == 1600
        with pytest.raises(
            SourceError, match="microphone 'USB Headset' gave no audio for 3 s or went away; check"
        ):
            next(chunks)


def test_a_device_that_falls_silent_is_an_error(fake: FakePortAudio) -> None:
    with (
        Microphone(stream="s", stall_s=0.01) as source,
        pytest.raises(SourceError, match=r"\(the default one\) gave no audio for 0.01 s"),
    ):
        next(iter(source))


def test_closing_from_another_thread_ends_the_iteration(fake: FakePortAudio) -> None:
    source = Microphone(stream="s", stall_s=60)
    source.open()
    ended = threading.Event()
    reader = threading.Thread(target=lambda: (list(source), ended.set()))
    reader.start()
    source.close()
    assert ended.wait(20)
    reader.join()
    source.close()


def test_it_can_be_opened_again(fake: FakePortAudio) -> None:
    fake.rates = (16_000,)
    source = Microphone(2, stream="s")
    for _ in range(2):
        with source:
            fake.streams[-1].feed(np.zeros(1600))
            [chunk] = take(source, 1600)
            assert chunk.start_s == 0
    fake.streams[0].end()  # a late call of the first stream


def test_devices_are_found_by_index_name_or_a_unique_part(fake: FakePortAudio) -> None:
    assert [device.name for device in list_microphones()] == ["USB Camera: Audio", "USB Headset"]
    assert find_microphone(None).name == "USB Headset"
    assert find_microphone("CAMERA").index == 1
    assert find_microphone("usb headset").index == find_microphone(2).index == 2
    with pytest.raises(
        SourceMissingError, match="several microphones fit 'usb'; choose one of 1: USB Camera"
    ):
        find_microphone("usb")
    with pytest.raises(
        SourceMissingError, match="no microphone 'blue'; there are 1: USB Camera: Audio, 2: USB Headset"
    ):
        find_microphone("blue")
    with pytest.raises(SourceMissingError, match="no microphone 0"):
        find_microphone(0)


@pytest.mark.parametrize(("uri", "index"), [("mic", 2), ("mic:1", 1), ("mic:camera: audio", 1)])
def test_addresses_of_microphones(fake: FakePortAudio, uri: str, index: int) -> None:
    with open_audio(uri, stream="s"):
        assert fake.streams[0].wanted["device"] == index


def test_a_machine_without_a_microphone(fake: FakePortAudio) -> None:
    del fake.rows[1:]
    with pytest.raises(SourceMissingError, match="this machine has no microphone; plug one in"):
        Microphone(stream="s").open()


def test_a_device_that_is_busy_or_does_not_start(fake: FakePortAudio) -> None:
    fake.rates = ()
    with pytest.raises(SourceError, match="'USB Headset' cannot be opened: Invalid sample rate"):
        Microphone(stream="s").open()
    fake.rates, fake.start_fails = (44_100,), True
    with pytest.raises(SourceError, match="'USB Headset' does not start: Device unavailable"):
        Microphone(stream="s").open()
    assert fake.streams[0].closed == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (OSError("PortAudio library not found"), "PortAudio library.*`sudo apt-get install libportaudio2`"),
        (ImportError("No module named 'sounddevice'"), "sounddevice package.*`pip install sounddevice`"),
    ],
)
def test_a_missing_library_names_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, message: str
) -> None:
    real = builtins.__import__

    def no_sounddevice(name: str, *rest: Any, **named: Any) -> Any:
        if name == "sounddevice":
            raise fault
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", no_sounddevice)
    with pytest.raises(SourceError, match=message):
        Microphone(stream="s").open()


def test_it_must_be_open_to_be_read() -> None:
    with pytest.raises(SourceError, match="the microphone is not open"):
        next(iter(Microphone(stream="s")))
    with pytest.raises(UsageError, match=r"block_s must be 0.005 to 2 seconds, got 0"):
        Microphone(stream="s", block_s=0)
