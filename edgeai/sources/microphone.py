"""Microphones by PortAudio (sounddevice), at whatever rate the device has. Audio is never dropped silently."""

from __future__ import annotations

import logging
import queue
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceMissingError, UsageError
from edgeai.sources.audio_file import bound_samples, mix_to_mono
from edgeai.sources.resample import MAX_RATE_HZ, MIN_RATE_HZ, Resampler
from edgeai.sources.source import Source
from edgeai.types import Chunk

_log = logging.getLogger(__name__)

# Audio that may wait for a slow reader before blocks are lost; 16 kHz mono: 1.3 MB.
_QUEUE_S = 20.0
_COMMON_RATES_HZ = (48_000, 44_100, 32_000, 16_000)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that PortAudio can record from. rate_hz is its default rate."""

    index: int
    name: str
    channels: int
    rate_hz: int
    default: bool


def list_microphones() -> list[InputDevice]:
    """Every input device that PortAudio saw when the process began. Raises SourceError without PortAudio."""
    portaudio = load_sounddevice()
    try:
        devices = list(portaudio.query_devices())
        default = portaudio.default.device[0]
    except portaudio.PortAudioError as error:
        raise SourceError(f"PortAudio cannot list its devices: {_reason(error)}") from error
    return [
        InputDevice(
            i, str(row["name"]), row["max_input_channels"], round(row["default_samplerate"]), i == default
        )
        for i, row in enumerate(devices)
        if row["max_input_channels"] > 0
    ]


class Microphone(Source[Chunk]):
    """A live microphone: mono chunks at sample_rate_hz, about `block_s` long, counted from the opening.

    device: None for the default one, an index, or a name or a unique part of one. channel: one of several, from 0;
    None averages them. Blocks wait up to 20 s for a slow reader; then they are lost, counted in `lost_samples`
    (at the device's rate), told once in the log, and the next chunk's start_s shows the gap. `overruns` counts the
    times the driver itself lost audio.

    Raises at opening SourceError where PortAudio or its library is missing or the device is busy, SourceMissingError
    where there is no such device; while reading SourceError where the device went away or was silent (not even
    zeros) for `stall_s`.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        stream: str,
        sample_rate_hz: int = 16_000,
        block_s: float = 0.1,
        channel: int | None = None,
        stall_s: float = 3.0,
    ) -> None:
        if not 0.005 <= block_s <= 2.0:
            raise UsageError(f"block_s must be 0.005 to 2 seconds, got {block_s}")
        self.device = device
        self.stream = stream
        self.sample_rate_hz = sample_rate_hz
        self.block_s = block_s
        self.channel = channel
        self.stall_s = stall_s
        self.device_rate_hz = 0
        self.overruns = 0
        self.lost_samples = 0
        self.nonfinite_samples = 0
        self._recorded = 0
        self._told = False
        self._blocks: queue.SimpleQueue[tuple[int, NDArray[np.float32]] | None] = queue.SimpleQueue()
        self._port: Any = None

    def open(self) -> None:
        if self._port is not None:
            return
        portaudio = load_sounddevice()
        found = find_microphone(self.device)
        if self.channel is not None and not 0 <= self.channel < found.channels:
            raise SourceError(
                f"microphone {found.name!r} has {found.channels} channels, none is number {self.channel}",
                next_step=f"choose 0 to {found.channels - 1}, or none for their mean",
            )
        self._recorded = 0
        self._blocks = queue.SimpleQueue()
        self._port, self.device_rate_hz = self._open_port(portaudio, found)
        try:
            self._port.start()
        except portaudio.PortAudioError as error:
            self.close()
            raise SourceError(f"microphone {found.name!r} does not start: {_reason(error)}") from error

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close(ignore_errors=True)
        self._blocks.put(None)

    def __iter__(self) -> Iterator[Chunk]:
        if self._port is None:
            raise SourceError("the microphone is not open", next_step="use it in a with block")
        resampler = Resampler(self.device_rate_hz, self.sample_rate_hz)
        begun_s, given, expected = 0.0, 0, 0
        while (block := self._next_block()) is not None:
            first, data = block
            if first != expected:
                resampler.reset()
                begun_s, given = first / self.device_rate_hz, 0
            expected = first + len(data)
            if not self._told and self.lost_samples + self.overruns:
                self._told = True  # the counters tell the rest
                _log.warning(
                    "microphone %s: audio was lost, the reader or the machine is too slow", self.stream
                )
            samples, bad, _ = bound_samples(mix_to_mono(data))
            self.nonfinite_samples += bad
            samples = np.clip(resampler.push(samples), -1, 1)
            if len(samples):
                yield Chunk(samples, self.sample_rate_hz, begun_s + given / self.sample_rate_hz, self.stream)
                given += len(samples)

    def _next_block(self) -> tuple[int, NDArray[np.float32]] | None:
        """The next block with its first sample's number; None once closed."""
        try:
            block = self._blocks.get(timeout=self.stall_s)
        except queue.Empty:
            block = None
        if block is None and self._port is not None:
            raise SourceError(
                f"microphone {self._name()} gave no audio for {self.stall_s:g} s or went away",
                next_step="check that it is plugged in, then open it again",
            )
        return block

    def _name(self) -> str:
        return repr(self.device) if self.device is not None else "(the default one)"

    def _open_port(self, portaudio: types.ModuleType, found: InputDevice) -> tuple[Any, int]:
        """A stopped PortAudio stream and its rate."""
        # one channel lets the driver mix; a chosen one needs all up to it, and some drivers give all or nothing
        wanted_channels = (1, found.channels) if self.channel is None else (self.channel + 1, found.channels)
        blocks = self._blocks
        reason = ""
        for rate_hz in _rates_to_try(found.rate_hz, self.sample_rate_hz):
            for channels in dict.fromkeys(wanted_channels):
                try:
                    port = portaudio.InputStream(
                        samplerate=rate_hz,
                        blocksize=max(1, round(self.block_s * rate_hz)),
                        device=found.index,
                        channels=channels,
                        dtype="float32",
                        callback=self._recorder(rate_hz),
                        finished_callback=lambda: blocks.put(None),
                    )
                except (portaudio.PortAudioError, ValueError) as error:
                    reason = _reason(error)
                else:
                    return port, rate_hz
        raise SourceError(
            f"microphone {found.name!r} cannot be opened: {reason}",
            next_step="close the program that uses it, or choose another",
        )

    def _recorder(self, rate_hz: int) -> Any:
        """The callback of PortAudio's thread: copy, queue, count; nothing that waits."""
        longest = max(2, round(_QUEUE_S / self.block_s))

        def record(data: NDArray[np.float32], frames: int, _time: object, status: Any) -> None:
            if status and status.input_overflow:
                self.overruns += 1
            first = self._recorded
            self._recorded += frames
            if self._blocks.qsize() >= longest:
                self.lost_samples += frames
                return
            block = data if self.channel is None else data[:, self.channel : self.channel + 1]
            self._blocks.put((first, block.copy()))

        return record


def _rates_to_try(device_hz: int, wanted_hz: int) -> list[int]:
    """The device's own rate first: the converters of ALSA and PulseAudio lose and alias more than ours."""
    candidates = (device_hz, wanted_hz, *_COMMON_RATES_HZ)
    enough = [rate_hz for rate_hz in candidates if rate_hz >= wanted_hz]
    return [rate for rate in dict.fromkeys((*enough, *candidates)) if MIN_RATE_HZ <= rate <= MAX_RATE_HZ]


def find_microphone(device: str | int | None) -> InputDevice:
    """The input device of that index, name or unique part of a name; the default one for None.

    Raises SourceMissingError that lists what there is.
    """
    devices = list_microphones()
    if not devices:
        raise SourceMissingError(
            "this machine has no microphone",
            next_step="plug one in, or check `arecord -l` and the audio group",
        )
    there = ", ".join(f"{row.index}: {row.name}" for row in devices)
    if device is None:
        return next((row for row in devices if row.default), devices[0])
    if isinstance(device, int):
        matches = [row for row in devices if row.index == device]
    else:
        wanted = device.casefold()
        matches = [row for row in devices if row.name.casefold() == wanted]
        matches = matches or [row for row in devices if wanted in row.name.casefold()]
    if not matches:
        raise SourceMissingError(f"no microphone {device!r}", next_step=f"there are {there}")
    if len(matches) > 1:
        names = ", ".join(f"{row.index}: {row.name}" for row in matches)
        raise SourceMissingError(f"several microphones fit {device!r}", next_step=f"choose one of {names}")
    return matches[0]


def load_sounddevice() -> types.ModuleType:
    """The sounddevice module. Raises SourceError with the line that installs what is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise SourceError(
            f"microphones need the sounddevice package: {error}", next_step="`pip install sounddevice`"
        ) from error
    except OSError as error:
        raise SourceError(
            f"microphones need the PortAudio library: {error}",
            next_step="`sudo apt-get install libportaudio2`",
        ) from error
    module: types.ModuleType = sounddevice
    return module


def _reason(error: BaseException) -> str:
    """PortAudio's words on one line."""
    return " ".join(str(error.args[0] if error.args else error).split())
