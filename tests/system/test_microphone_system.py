"""A real PortAudio stream from a real PulseAudio server: what is played is what is recorded."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from microphone import VirtualMicrophone, virtual_microphone

pytestmark = [pytest.mark.system, pytest.mark.data]

# Records until it was given its seconds, or ends with the error; prints a line when the stream runs.
RECORD = """
import sys, numpy as np
from edgeai.errors import EdgeError
from edgeai.sources.audio import open_audio
uri, rate_hz, seconds, out = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
held = []
with open_audio(uri, stream="mic", sample_rate_hz=rate_hz) as source:
    try:
        for chunk in source:
            if not held:
                print("listening", flush=True)
            held.append(chunk)
            if chunk.start_s > seconds:
                break
    except EdgeError as error:
        print("ended:", error, flush=True)
    print("rate", source.device_rate_hz, "lost", source.lost_samples, flush=True)
starts = np.array([chunk.start_s for chunk in held])
lengths = np.array([len(chunk.samples) for chunk in held])
if len(held) > 1:
    assert np.allclose(np.diff(starts), lengths[:-1] / rate_hz), "the time stamps do not follow the samples"
np.save(out, np.concatenate([chunk.samples for chunk in held]) if held else np.empty(0, np.float32))
"""


@pytest.fixture(scope="module")
def microphone() -> Iterator[VirtualMicrophone]:
    with virtual_microphone() as plugged:
        yield plugged


@contextlib.contextmanager
def recorder(
    microphone: VirtualMicrophone, uri: str, rate_hz: int, seconds: float, out: Path
) -> Iterator[subprocess.Popen[str]]:
    """A child that records; it ends with the block, whatever happens."""
    command = [sys.executable, "-c", RECORD, uri, str(rate_hz), str(seconds), str(out)]
    child = subprocess.Popen(
        command, env=microphone.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "listening\n", child.communicate(timeout=20)[1]
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def best_match(heard: np.ndarray, played: np.ndarray) -> float:
    """The largest normalised cross-correlation of `played` with any stretch of `heard`, -1..1."""
    size = 1 << (len(heard) + len(played)).bit_length()
    product = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)), size)
    product = product[: len(heard) - len(played) + 1]
    energy = np.convolve(heard.astype(np.float64) ** 2, np.ones(len(played)), "valid")
    return float(
        np.max(product / np.sqrt(np.maximum(energy, 1e-12) * np.sum(played.astype(np.float64) ** 2)))
    )


def _halved(samples: np.ndarray) -> np.ndarray:
    from edgeai.sources.resample import Resampler

    half = Resampler(16_000, 8_000)
    return np.concatenate((half.push(samples), half.flush()))


def clip_of(shared_data: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """A person's word of the shared data, at 16 kHz, as a WAV file that paplay reads."""
    found = sorted((shared_data / "speech_commands" / "clips").rglob("*.flac"))
    for candidate in found:
        samples, rate_hz = soundfile.read(candidate, dtype="float32")
        if rate_hz == 16_000 and np.abs(samples).max() > 0.2:
            wav = folder / "word.wav"
            soundfile.write(wav, samples, rate_hz)
            return wav, samples
    pytest.fail("no loud clip among the shared speech")


@pytest.mark.parametrize(("uri", "rate_hz"), [("mic", 16_000), ("mic:pulse", 16_000), ("mic", 8_000)])
def test_what_is_played_is_recorded(
    microphone: VirtualMicrophone, shared_data: Path, tmp_path: Path, uri: str, rate_hz: int
) -> None:
    wav, played = clip_of(shared_data, tmp_path)
    wanted = [played]
    if rate_hz == 8_000:
        # which of each two samples the sound server's own half begins with is chance
        wanted = [_halved(played), _halved(played[1:])]
    matches = []
    # on a busy machine the sound server itself skips now and then, before PortAudio sees anything: play it again
    for attempt in range(4):
        heard_file = tmp_path / f"heard-{attempt}.npy"
        with recorder(microphone, uri, rate_hz, 3.0, heard_file) as child:
            microphone.play(wav)
            out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert "ended" not in out
        heard = np.load(heard_file)
        matches.append(max(best_match(heard, one) for one in wanted) if "lost 0" in out else 0.0)
        if matches[-1] > 0.98:
            break
    assert matches[-1] > 0.98, matches


def test_an_unplugged_microphone_ends_with_one_clear_error(
    microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    with recorder(microphone, "mic", 16_000, 1e9, tmp_path / "heard.npy") as child:
        microphone.unplug()
        try:
            out, err = child.communicate(timeout=60)
        finally:
            microphone.plug_in()
    assert child.returncode == 0, err
    assert "ended: microphone (the default one)" in out


def test_without_a_server_there_is_one_line(microphone: VirtualMicrophone, tmp_path: Path) -> None:
    code = "from edgeai.sources.microphone import Microphone\nMicrophone(stream='mic').open()"
    env = microphone.env | {"PULSE_SERVER": f"unix:{tmp_path}/nobody"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("edgeai.errors.Source"), done.stderr
