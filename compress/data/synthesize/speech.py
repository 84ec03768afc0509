"""Spoken words by espeak-ng: many voices, accents, pitches and speeds, as a data folder that the trainer reads.

Made voices do not sound like people: they give a first model for words that nobody has recorded, and more voices to a
small set. Judge the model on recordings.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.data.synthesize.flac import write_flac
from edgeai.console import progress_bar
from edgeai.errors import DataError, DataMissingError, UsageError
from edgeai.sources.resample import Resampler
from edgeai.whole_file import check_free, new_folder

PROGRAM = "espeak-ng"
TIMEOUT_S = 30.0
MAX_WORDS = 200
MAX_WORD_LETTERS = 80
MAX_CLIPS = 200_000
MIN_CLIP_S = 1.0
MARGIN_S = 0.1
UNKNOWN = "unknown"
# not people: robots, station announcements, and speeds that the clip's own speed shall set
NOVELTIES = re.compile(r"robo|demonic|announcer|unirobot|fast|storm|tweaky", re.IGNORECASE)
_VOICE_LINE = re.compile(r"\s*\d+\s+(?P<language>\S+)\s+\S+\s+\S+\s+(?P<file>!v/.*?|\S+)\s*(?:\(.*)?$")

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Voice:
    """accent: an espeak-ng voice file, such as gmw/en-US. variant: the speaker. pitch: 0 to 99. words_per_minute."""

    accent: str
    variant: str
    pitch: int
    words_per_minute: int

    @property
    def speaker(self) -> str:
        """What parts splits: the accent may change, the speaker is still the same."""
        return f"espeak-{_slug(self.variant)}"


@dataclass(frozen=True, slots=True)
class SpokenFolder:
    """What was made. longest_s: of the words, silence round them left out: what a model's window must hold."""

    folder: Path
    labels: tuple[str, ...]
    clips: int
    speakers: int
    longest_s: float


def synthesize_speech(
    words: Sequence[str],
    out: Path,
    *,
    unknown: Sequence[str] = (),
    voices: int = 40,
    per_word: int = 100,
    seed: int = 0,
    language: str = "en",
    sample_rate_hz: int = 16000,
    split: str = "train",
) -> SpokenFolder:
    """Make the new folder `out`: clips/<label>/*.flac and <split>.csv with columns file, label, speaker.

    Each word is a label of its own and is spoken `per_word` times by `voices` voices in turn; `unknown` words share the
    label "unknown" and that many clips. A clip lasts a second, longer where the word does, the word near its middle. The
    same seed and espeak-ng give the same folder. Raises UsageError for words that cannot be spoken or a wrong number, DataMissingError where
    espeak-ng is not installed or lacks the language, DataError where `out` is taken or a word came out silent.
    """
    words, unknown = _checked_words(words), _checked_words(unknown)
    both = set(words) & set(unknown)
    if both or UNKNOWN in words:
        raise UsageError(f"{sorted(both)[0] if both else UNKNOWN!r} cannot be both a word and an unknown one")
    if not words:
        raise UsageError("no words to speak", next_step='name them, for example --words "yes,no,turn left"')
    if per_word < 1 or voices < 1 or not 8000 <= sample_rate_hz <= 48000:
        raise UsageError("voices and per-word must be at least 1, the sample rate 8000 to 48000")
    if per_word * (len(words) + bool(unknown)) > MAX_CLIPS:
        raise UsageError(f"that would be over {MAX_CLIPS} clips", next_step="lower --per-word")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", split):
        raise UsageError(f"a split's name has letters, digits, - and _ only, got {split!r}")
    check_free(out)
    rng = np.random.default_rng(seed)
    cast = draw_voices(voices, language=language, rng=rng)
    jobs = [(word, word, number) for word in words for number in range(per_word)]
    if unknown:
        jobs += [(unknown[number % len(unknown)], UNKNOWN, number) for number in range(per_word)]
    rngs = rng.spawn(len(jobs))
    rows: list[tuple[str, str, str]] = []
    longest_s = 0.0
    with new_folder(out) as part, progress_bar("speaking", len(jobs)) as advance:
        for label in {label for _, label, _ in jobs}:
            (part / "clips" / _slug(label)).mkdir(parents=True)

        def speak(job: int) -> tuple[str, str, str, float]:
            word, label, number = jobs[job]
            voice = cast[number % len(cast)]
            spoken = speak_word(word, voice, sample_rate_hz=sample_rate_hz, rng=rngs[job])
            name = f"clips/{_slug(label)}/{number:05d}_{voice.speaker}.flac"
            write_flac(part / name, _framed(spoken, sample_rate_hz, rngs[job]), sample_rate_hz)
            return name, label, voice.speaker, len(spoken) / sample_rate_hz

        with ThreadPoolExecutor(2) as pool:  # each starts a process: two keep two cores busy
            try:
                for name, label, speaker, seconds in pool.map(speak, range(len(jobs))):
                    rows.append((name, label, speaker))
                    longest_s = max(longest_s, seconds)
                    advance(1)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        with (part / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label", "speaker"), *rows])
    labels = (*words, *((UNKNOWN,) if unknown else ()))
    return SpokenFolder(out, labels, len(rows), len({row[2] for row in rows}), longest_s)


def draw_voices(count: int, *, language: str, rng: np.random.Generator) -> list[Voice]:
    """`count` voices: every speaker once before any comes again, with random accents of a language, pitches and speeds.

    Raises UsageError for what is no language code, DataMissingError where espeak-ng is not installed or lacks it.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,19}", language) or language == "variant":
        raise UsageError(f"a language is a code such as en or pt-br, got {language!r}")
    # mbrola voices need files of their own, which are seldom there
    accents = sorted({file for file in _voice_files(language) if not file.startswith("mb/")})
    variants = [file.removeprefix("!v/") for file in _voice_files("variant")]
    variants = sorted({v for v in variants if not NOVELTIES.search(v)})
    if not accents or not variants:
        raise DataMissingError(
            f"{PROGRAM} has no voice for the language {language!r}",
            next_step=f"see `{PROGRAM} --voices` for those that it has",
        )
    order = [variants[i] for i in rng.permutation(len(variants))]
    return [
        Voice(
            accent=accents[int(rng.integers(len(accents)))],
            variant=order[number % len(order)],
            pitch=int(np.clip(rng.normal(50, 18), 5, 95)),
            words_per_minute=int(rng.uniform(110, 220)),
        )
        for number in range(count)
    ]


def speak_word(word: str, voice: Voice, *, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """The word (N,) float32, silence cut off, peak 0.3 to 0.9. No voice says it twice alike: pitch and speed vary a
    little. Raises DataError where nothing is heard, DataMissingError without espeak-ng.
    """
    pitch = int(np.clip(voice.pitch + rng.integers(-8, 9), 0, 99))
    speed = int(np.clip(voice.words_per_minute * rng.uniform(0.9, 1.1), 80, 260))
    sound = _run(
        ["--stdout", "--stdin", "-v", f"{voice.accent}+{voice.variant}", "-p", str(pitch), "-s", str(speed)],
        stdin=word,
    )
    samples = _read_wav(sound, sample_rate_hz)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * max(float(np.max(np.abs(samples), initial=0.0)), 1e-3))
    if len(loud) < sample_rate_hz // 100:
        raise DataError(f"{PROGRAM} says nothing for {word!r}", next_step="spell the word with letters")
    samples = samples[loud[0] : loud[-1] + 1]
    return np.asarray(samples * np.float32(rng.uniform(0.3, 0.9) / np.max(np.abs(samples))), np.float32)


def _framed(spoken: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """The word in silence, near the middle of a second, or of its own length and a tenth of a second on each side."""
    margin = round(MARGIN_S * sample_rate_hz)
    length = max(round(MIN_CLIP_S * sample_rate_hz), len(spoken) + 2 * margin)
    free = length - len(spoken)
    begin = int(np.clip(free * rng.normal(0.5, 0.12), margin // 2, free - margin // 2))
    out = np.zeros(length, np.float32)
    out[begin : begin + len(spoken)] = spoken
    return out


def _checked_words(words: Sequence[str]) -> tuple[str, ...]:
    cleaned = tuple(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
    for word in cleaned:
        if len(word) > MAX_WORD_LETTERS or not word.isprintable() or not re.search(r"\w", word):
            raise UsageError(
                f"{word[:40]!r} is no word to speak", next_step=f"use letters, at most {MAX_WORD_LETTERS}"
            )
    if len(cleaned) > MAX_WORDS:
        raise UsageError(f"{len(cleaned)} words are more than {MAX_WORDS}")
    slugs = [_slug(word) for word in cleaned]
    twice = next((i for i, slug in enumerate(slugs) if slug in slugs[:i]), None)
    if twice is not None:
        raise UsageError(f"{cleaned[twice]!r} and another word would share the folder clips/{slugs[twice]}")
    return cleaned


def _slug(text: str) -> str:
    """A folder's name for a label: letters and digits of any script; what else there is becomes _."""
    return re.sub(r"[^\w]+", "_", text).strip("_").lower() or "_"


def _voice_files(language: str) -> list[str]:
    listed = _run([f"--voices={language}"]).decode(errors="replace").splitlines()[1:]
    return [match["file"] for line in listed if (match := _VOICE_LINE.match(line))]


def require_program() -> str:
    """Where espeak-ng is. Raises DataMissingError that says how to install it."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise DataMissingError(
            f"{PROGRAM} is not installed",
            next_step=f"install it, on Debian and Ubuntu: apt-get install {PROGRAM}",
        )
    return program


def _run(arguments: Sequence[str], *, stdin: str = "") -> bytes:
    """Words go through standard input, never on the command line: none of them can become an option."""
    try:
        done = subprocess.run(
            [require_program(), *arguments],
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{PROGRAM} did not answer within {TIMEOUT_S:.0f} s for {stdin!r}") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise DataError(f"{PROGRAM} failed for {stdin!r}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _read_wav(sound: bytes, sample_rate_hz: int) -> Samples:
    """16-bit mono from a pipe: the header's lengths are unknown there, so the samples are all that follows it."""
    if len(sound) < 44 or sound[:4] != b"RIFF":
        raise DataError(f"{PROGRAM} gave no WAV")
    rate_hz = int.from_bytes(sound[24:28], "little")
    body = sound[44:]
    samples = np.frombuffer(body[: len(body) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)
    if rate_hz == sample_rate_hz:
        return samples
    resampler = Resampler(rate_hz, sample_rate_hz)
    return np.concatenate((resampler.push(samples), resampler.flush()))
