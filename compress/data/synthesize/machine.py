"""The sound of a made-up rotating machine, sound and faulty, in real background noise: a data folder for an autoencoder.

A shaft's harmonics, a gear's mesh with sidebands of the shaft, and a fan's noise, each a little different in every clip: speed,
load, distance. A fault is added to such a clip, from barely audible to plain. It is no recording: what a model reaches on it
says that the way from sound to score works, and which kinds of fault such a model can hear, not what it will reach in a hall.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.data.speech import load_noises
from compress.data.synthesize.flac import write_flac
from edgeai.bundle.manifest import Settings
from edgeai.console import progress_bar
from edgeai.errors import DataMissingError, UsageError
from edgeai.whole_file import check_free, new_folder

Samples = NDArray[np.float64]
Fraction = Annotated[float, Field(ge=0, le=1)]
NORMAL = "normal"
SECONDS = 3.0
MAX_CLIPS = 100_000
SHAFT_HZ, TEETH = 29.5, 23  # a motor of two poles under load, and its gear's teeth
SPEED_SPREAD = 0.02
# a bearing's outer race with nine balls is passed so often a turn (Randall and Antoni 2011, with a usual geometry)
BALL_PASSES = 3.58
_PEAK = 0.5


@dataclass(frozen=True, slots=True)
class MachineFolder:
    """What was made: clips of each label, normal first."""

    folder: Path
    clips: dict[str, int]


class MachineSettings(Settings):
    """Which sounds are made, as of synthesize_machine. noises: a folder below a data root."""

    clips: Annotated[int, Field(ge=1, le=MAX_CLIPS)] = 400
    faulty: Annotated[int, Field(ge=0, le=10_000)] = 40
    noises: str | None = None
    part: tuple[Fraction, Fraction] = (0.0, 1.0)

    def make(
        self, out: Path, data_root: Path, *, seed: int, sample_rate_hz: int = 16000, split: str = "train"
    ) -> MachineFolder:
        """Make the new folder `out`. Raises what synthesize_machine raises."""
        return synthesize_machine(
            out,
            clips=self.clips,
            faulty=self.faulty,
            noises=data_root / self.noises if self.noises else None,
            part=self.part,
            seed=seed,
            sample_rate_hz=sample_rate_hz,
            split=split,
        )


@dataclass(frozen=True, slots=True)
class _Clip:
    """phase: (N,) the shaft's angle in turns. body: the sound so far. severity: 0, barely audible, to 1."""

    phase: Samples
    body: Samples
    severity: float
    sample_rate_hz: int
    rng: np.random.Generator

    @property
    def level(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.body))))

    def strength(self, low_db: float, high_db: float) -> float:
        """An amplitude by severity, in decibels above the body's level."""
        return self.level * 10 ** ((low_db + self.severity * (high_db - low_db)) / 20)


def synthesize_machine(
    out: Path,
    *,
    clips: int = 400,
    faulty: int = 40,
    noises: Path | None = None,
    part: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    sample_rate_hz: int = 16000,
    split: str = "train",
) -> MachineFolder:
    """Make the new folder `out`: clips/<label>/*.flac of three seconds and <split>.csv with columns file and label.

    clips: of the normal sound; faulty: of each kind in `FAULTS`. noises: recordings behind the machine, of which only the
    fraction `part` is used, so that another set can have other noise. The same seed gives the same folder. Raises UsageError for
    wrong numbers, DataMissingError without noises in their folder, DataError where `out` is taken.
    """
    if clips < 1 or faulty < 0 or clips + faulty * len(FAULTS) > MAX_CLIPS:
        raise UsageError(f"at least one clip, at most {MAX_CLIPS}, got {clips} and {faulty} of each fault")
    if not 0 <= part[0] < part[1] <= 1:
        raise UsageError(
            f"a part of the noises goes from low to high in 0..1, got {part[0]:g} to {part[1]:g}"
        )
    if not 8000 <= sample_rate_hz <= 48000:
        raise UsageError(f"the sample rate must be 8000 to 48000, got {sample_rate_hz}")
    check_free(out)
    behind = _parts(load_noises(noises, sample_rate_hz=sample_rate_hz), part, sample_rate_hz)
    if noises is not None and not behind:
        raise DataMissingError(f"that part of the recordings in {noises} is shorter than a clip")
    jobs = [NORMAL] * clips + [name for name in FAULTS for _ in range(faulty)]
    rows = []
    with new_folder(out) as made, progress_bar("machines", len(jobs)) as advance:
        for label in dict.fromkeys(jobs):
            (made / "clips" / label).mkdir(parents=True)
        for number, (label, rng) in enumerate(
            zip(jobs, np.random.default_rng(seed).spawn(len(jobs)), strict=True)
        ):
            name = f"clips/{label}/{number:05d}.flac"
            sound = machine_sound(label, behind, sample_rate_hz=sample_rate_hz, rng=rng)
            write_flac(made / name, sound, sample_rate_hz)
            rows.append((name, label))
            advance(1)
        with (made / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label"), *rows])
    return MachineFolder(out, {label: jobs.count(label) for label in dict.fromkeys(jobs)})


def machine_sound(
    label: str,
    noises: Sequence[NDArray[np.float32]],
    *,
    sample_rate_hz: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """(N,) float32, -1..1: three seconds of the machine, `label` "normal" or one of `FAULTS`, in one of `noises`."""
    count = round(SECONDS * sample_rate_hz)
    seconds = np.arange(count) / sample_rate_hz
    slow = SLOWED if label == "slowed" else 1.0
    if slow != 1.0:
        slow = 1 - (1 - slow) * rng.uniform(0.3, 1.0)
    speed_hz = SHAFT_HZ * slow * (1 + rng.uniform(-SPEED_SPREAD, SPEED_SPREAD))
    sway = 0.002 * np.sin(2 * np.pi * (rng.uniform(0.3, 1.2) * seconds + rng.random()))
    phase = np.cumsum(speed_hz * (1 + sway)) / sample_rate_hz + rng.random()
    body = _healthy(phase, rng, sample_rate_hz)
    clip = _Clip(phase, body, float(rng.random()), sample_rate_hz, rng)
    if label != NORMAL:
        body = body + FAULTS[label](clip)
    body = body * (_PEAK / np.max(np.abs(body)))
    if noises:
        noise = noises[int(rng.integers(len(noises)))]
        begin = int(rng.integers(len(noise) - count + 1))
        part = noise[begin : begin + count].astype(np.float64)
        ratio = np.sqrt(np.mean(np.square(body)) / (np.mean(np.square(part)) + 1e-12))
        body = body + part * ratio * 10 ** (-rng.uniform(8, 25) / 20)
    gain = _PEAK * 10 ** (rng.uniform(-6, 0) / 20) / np.max(np.abs(body))
    return np.asarray(body * gain, np.float32)


def _healthy(phase: Samples, rng: np.random.Generator, sample_rate_hz: int) -> Samples:
    """The machine as it should be: harmonics that fall by 5 dB each, the gear's mesh and its octave, the fan."""
    turns = 2 * np.pi * phase
    load = rng.uniform(0.8, 1.25)
    sound = np.zeros(len(phase))
    for harmonic in range(1, 13):
        sound += (
            load * 10 ** (-5 * (harmonic - 1) / 20) * np.sin(harmonic * turns + rng.uniform(0, 2 * np.pi))
        )
    for octave, level in ((1, 0.35), (2, 0.12)):
        depth = rng.uniform(0.15, 0.3)
        swell = 1 + depth * np.sin(turns + rng.uniform(0, 2 * np.pi))
        sound += load * level * swell * np.sin(octave * TEETH * turns + rng.uniform(0, 2 * np.pi))
    fan = _coloured(len(phase), rng, sample_rate_hz, low_hz=150, high_hz=1800)
    return np.asarray(sound + rng.uniform(0.35, 0.5) * fan, np.float64)


def _bearing(clip: _Clip) -> Samples:
    """A pitted race: a short ringing at each ball, not quite evenly, loudest once a turn."""
    passes = np.floor(clip.phase * BALL_PASSES)
    hits = np.flatnonzero(np.diff(passes) > 0)
    hits = hits + clip.rng.integers(-8, 9, len(hits))
    strike = np.zeros(len(clip.phase))
    inside = hits[(hits >= 0) & (hits < len(strike))]
    strike[inside] = 0.6 + 0.4 * np.cos(2 * np.pi * clip.phase[inside])
    ringing_hz = clip.rng.uniform(2200, 4200)
    time = np.arange(round(0.012 * clip.sample_rate_hz)) / clip.sample_rate_hz
    ring = np.exp(-time / 0.002) * np.sin(2 * np.pi * ringing_hz * time)
    return _scaled(np.convolve(strike, ring)[: len(strike)], clip.strength(-26, -8))


def _rattle(clip: _Clip) -> Samples:
    """A loose part: bursts of noise at no regular time."""
    envelope = np.zeros(len(clip.phase))
    for start in clip.rng.integers(0, len(envelope), clip.rng.integers(8, 40)):
        length = int(clip.rng.uniform(0.01, 0.05) * clip.sample_rate_hz)
        end = min(len(envelope), start + length)
        envelope[start:end] += np.exp(-np.arange(end - start) / (length / 4))
    noise = _coloured(len(envelope), clip.rng, clip.sample_rate_hz, low_hz=800, high_hz=5000)
    return _scaled(noise * envelope, clip.strength(-24, -6))


def _squeal(clip: _Clip) -> Samples:
    """A dry belt: one high tone that drifts and swells."""
    seconds = np.arange(len(clip.phase)) / clip.sample_rate_hz
    drift = 0.02 * np.sin(2 * np.pi * clip.rng.uniform(0.5, 2) * seconds)
    tone = np.sin(2 * np.pi * np.cumsum(clip.rng.uniform(1500, 4500) * (1 + drift)) / clip.sample_rate_hz)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * (clip.rng.uniform(1, 5) * seconds + clip.rng.random()))
    return _scaled(tone * swell, clip.strength(-28, -10))


def _leak(clip: _Clip) -> Samples:
    """Compressed air that escapes: a steady hiss."""
    hiss = _coloured(len(clip.phase), clip.rng, clip.sample_rate_hz, low_hz=2500, high_hz=7500)
    return _scaled(hiss, clip.strength(-28, -10))


def _unbalanced(clip: _Clip) -> Samples:
    """A rotor out of balance: the shaft's own tone and twice it grow."""
    turns = 2 * np.pi * clip.phase
    return _scaled(np.sin(turns) + 0.5 * np.sin(2 * turns + 1.0), clip.strength(-4, 6))


def _nothing_added(clip: _Clip) -> Samples:
    """What is wrong is in the speed."""
    return np.zeros(len(clip.phase))


SLOWED = 0.75  # as slow as a slipping belt makes the machine at worst
FAULTS: dict[str, Callable[[_Clip], Samples]] = {
    "bearing": _bearing,
    "rattle": _rattle,
    "squeal": _squeal,
    "leak": _leak,
    "unbalanced": _unbalanced,
    "slowed": _nothing_added,
}


def _scaled(sound: Samples, level: float) -> Samples:
    """`sound` at an RMS of `level`."""
    return np.asarray(sound * (level / (np.sqrt(np.mean(np.square(sound))) + 1e-12)), np.float64)


def _coloured(
    count: int, rng: np.random.Generator, sample_rate_hz: int, *, low_hz: float, high_hz: float
) -> Samples:
    """Noise of RMS 1 between two soft edges."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / sample_rate_hz)
    spectrum /= np.sqrt((1 + (low_hz / np.maximum(hz, 1.0)) ** 4) * (1 + (hz / high_hz) ** 4))
    return _scaled(np.asarray(np.fft.irfft(spectrum, count), np.float64), 1.0)


def _parts(
    noises: Sequence[NDArray[np.float32]], part: tuple[float, float], sample_rate_hz: int
) -> list[NDArray[np.float32]]:
    """Of each recording the wanted part, where it is as long as a clip."""
    cut = [noise[int(part[0] * len(noise)) : int(part[1] * len(noise))] for noise in noises]
    return [noise for noise in cut if len(noise) > SECONDS * sample_rate_hz]
