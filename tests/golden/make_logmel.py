"""Writes logmel.npz, the golden features of a generated chirp: `python tests/golden/make_logmel.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeai.bundle.manifest import LogMelInput
from edgeai.stages.audio.logmel import log_mel

GOLDEN = Path(__file__).with_name("logmel.npz")

# name -> front end: the default one's bands, kws_streaming's 30/10 ms up to 4 kHz, and one at 48 kHz with an odd FFT
SPECS = {
    "default": LogMelInput(offset=-2.0, scale=12.0),
    "narrow": LogMelInput(hop_samples=160, low_hz=20.0, high_hz=4000.0, mels=20, offset=-1.0, scale=15.0),
    "studio": LogMelInput(
        sample_rate_hz=48_000,
        window_samples=1200,
        hop_samples=960,
        fft_size=1201,
        high_hz=24_000.0,
        mels=32,
        scale=14.0,
    ),
}


def chirp(sample_rate_hz: int) -> np.ndarray:
    """0.4 s rising from 50 Hz to 0.45 of the rate while fading by 60 dB, then 0.05 s of silence."""
    t = np.arange(round(0.4 * sample_rate_hz)) / sample_rate_hz
    phase = 2 * np.pi * (50 * t + (0.45 * sample_rate_hz - 50) * t**2 / 0.8)
    sound = np.sin(phase) * 10 ** (-3 * t / 0.4)
    # rounded to 16 bits, so that a sine that differs in its last bit gives the same samples
    return np.concatenate((np.round(sound * 32767) / 32768, np.zeros(sample_rate_hz // 20))).astype(
        np.float32
    )


def make() -> dict[str, np.ndarray]:
    return {name: log_mel(chirp(spec.sample_rate_hz), spec) for name, spec in SPECS.items()}


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **make())
    print(GOLDEN.name, GOLDEN.stat().st_size, "bytes")
