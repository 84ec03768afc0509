"""`data check` on sounds: a clean set has no fault, and each planted one is found under its code."""

from __future__ import annotations

import csv
import json
from zlib import crc32

import numpy as np
import pytest
import soundfile

from compress.cli.commands import app
from compress.data.check.clean import write_cleaned
from compress.data.check.fingerprint import (
    find_shared_spans,
    fingerprint,
    propose_pairs,
    resample_for_comparison,
    resample_for_words,
)
from compress.data.check.report import FAULT_KINDS
from compress.data.check.run import run_check
from edgeai.console import run_app
from edgeai.errors import DataError, EdgeError

RATE = 16000
EACH = 6
COLUMNS = ("file", "label", "speaker", "sample_rate", "samples")


def utter(seed, seconds=0.8, rate=RATE):
    """Something like speech: noise in a few bands that come and go, unlike any other."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    waves = np.fft.rfft(rng.normal(0, 1, count))
    hz = np.fft.rfftfreq(count, 1 / rate)
    shaped = sum(np.exp(-(((hz - f) / 120) ** 2)) for f in rng.uniform(200, 3000, 4)) + 0.03
    sound = np.fft.irfft(waves * shaped, count)
    sound *= np.interp(np.arange(count), np.linspace(0, count, 12), rng.uniform(0.2, 1, 12))
    return (0.4 * sound / np.abs(sound).max()).astype(np.float32)


class Sounds:
    """A clean set in a folder, to be broken; `rows[split]` is written by `check`."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = {}
        (folder / "clips").mkdir(parents=True)
        for number, split in enumerate(("train", "test")):
            rows = []
            for i in range(EACH):
                for k, label in enumerate(("yes", "no")):
                    name = f"clips/{split}-{label}-{i}.wav"
                    sound = utter(1000 * number + 10 * i + k, 0.7 + 0.02 * i)
                    self.write(name, sound)
                    speaker = f"{split}-speaker-{i % 3}"
                    rows.append([name, label, speaker, str(RATE), str(len(sound))])
            self.rows[split] = rows

    def write(self, name, sound, rate=RATE, **more):
        soundfile.write(self.folder / name, sound, rate, **more)

    def read(self, name):
        return soundfile.read(self.folder / name, dtype="float32")[0]

    def replace(self, row, sound, rate=RATE, **more):
        self.write(row[0], sound, rate, **more)
        row[3:] = [str(rate), str(len(sound))]

    def check(self, *splits, **more):
        for split, rows in self.rows.items():
            with (self.folder / f"{split}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *rows])
        return run_check(self.folder, splits, **more)


@pytest.fixture
def sounds(tmp_path):
    return Sounds(tmp_path / "set")


def found(checked):
    return checked.report.by_code()


def test_a_clean_set_has_no_fault(sounds):
    checked = sounds.check(min_examples=4)
    assert found(checked) == {}
    test, train = sorted(checked.report.splits, key=lambda split: split.name)
    assert (train.files, train.groups, train.classes) == (2 * EACH, 3, {"yes": EACH, "no": EACH})
    assert train.seconds == pytest.approx(sum(int(row[4]) for row in sounds.rows["train"]) / RATE, abs=0.01)
    assert test.files == 2 * EACH


def _change(change, **more):
    return lambda s: s.replace(s.rows["train"][0], change(s.read(s.rows["train"][0][0])), **more)


def _cut(s):
    path = s.folder / s.rows["train"][0][0]
    path.write_bytes(path.read_bytes()[:9000])


def _cut_flac(s):
    row = s.rows["train"][0]
    (s.folder / row[0]).unlink()
    row[0] = row[0].replace(".wav", ".flac")
    s.replace(row, utter(31, 2.4))
    path = s.folder / row[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _copy(split, change=np.array, rate=RATE, **more):
    def plant(s):
        source = s.rows["train"][2]
        target = s.rows[split][0]
        target[1] = source[1]
        s.replace(target, change(s.read(source[0])), rate, **more)

    return plant


def _half_rate(sound):
    return resample(sound, RATE, 8000)


def resample(sound, rate, to):
    count = len(sound) * to // rate
    return (np.fft.irfft(np.fft.rfft(sound)[: count // 2 + 1], count) * to / rate).astype(np.float32)


def _span(split):
    """Two cuts of one long recording that overlap by 0.3 s, as silence clips often are."""

    def plant(s):
        tape = utter(5000, 3.0)
        s.replace(s.rows["train"][0], tape[: int(0.8 * RATE)])
        s.replace(s.rows[split][2], 0.5 * tape[int(0.5 * RATE) + 7 : int(1.3 * RATE)])

    return plant


def _quiet_but_for(sound):
    made = np.random.default_rng(1).normal(0, 1e-4, len(sound)).astype(np.float32)
    made[4000:4800] += sound[4000:4800]
    return made


PLANTED = {
    "absent": lambda s: (s.folder / s.rows["train"][0][0]).unlink(),
    "unreadable": lambda s: (s.folder / s.rows["train"][0][0]).write_bytes(b"RIFF no sound"),
    "unreadable: empty": lambda s: (s.folder / s.rows["train"][0][0]).write_bytes(b""),
    "truncated": _cut,
    "truncated: FLAC": _cut_flac,
    "bad-entry": lambda s: s.rows["train"].append(["", "yes", "", "", ""]),
    "bad-entry: outside": lambda s: s.rows["train"].append(["../../etc/a.wav", "yes", "", "", ""]),
    "listed-twice": lambda s: s.rows["train"].append(s.rows["train"][0]),
    "not-listed": lambda s: s.write("clips/more.wav", utter(77)),
    "silent": _change(np.zeros_like),
    "silent: one value": _change(lambda x: np.full_like(x, 0.01)),
    "too-quiet": _change(lambda x: 0.0005 * x, subtype="FLOAT"),
    "mostly-silent": _change(_quiet_but_for),
    "clipped": _change(lambda x: np.clip(6 * x, -1, 1)),
    "clipped: and turned down": _change(lambda x: 0.5 * np.clip(6 * x, -1, 1)),
    "dc-offset": _change(lambda x: 0.5 * x + 0.1),
    "wrong-rate": lambda s: s.rows["train"][0].__setitem__(3, "8000"),
    "mixed-rate": _change(_half_rate, rate=8000),
    "mixed-channels": _change(lambda x: np.stack((x, x), axis=1)),
    "length-differs": lambda s: s.rows["train"][0].__setitem__(4, "99"),
    "too-short": _change(lambda x: x[4000:6400]),
    "too-long": _change(lambda x: utter(4321, 4.0)),
    "duplicate": _copy("train"),
    "near-duplicate: gain": _copy("train", lambda x: 0.4 * x),
    "near-duplicate: shift": _copy("train", lambda x: np.concatenate((np.zeros(150, np.float32), x))[: len(x)]),
    "near-duplicate: inverted": _copy("train", lambda x: -x),
    "near-duplicate: other coding": _copy("train", subtype="ULAW"),
    "leak-file": _copy("test"),
    "leak-near: gain and cut": _copy("test", lambda x: 0.6 * x[211:]),
    "leak-span": _span("test"),
    "shared-span": _span("train"),
    "leak-group": lambda s: s.rows["test"][0].__setitem__(2, "train-speaker-1"),
    "class-absent": lambda s: [row.__setitem__(1, "yes") for row in s.rows["test"]],
    "label-spelling": lambda s: s.rows["train"][0].__setitem__(1, "Yes"),
}  # fmt: skip
BESIDE = {
    "bad-entry": set(),
    "label-spelling": {"class-absent", "few-examples"},
}


@pytest.mark.parametrize("planted", PLANTED)
def test_each_planted_fault_is_found_and_nothing_else(sounds, planted):
    code = planted.partition(":")[0]
    PLANTED[planted](sounds)
    checked = sounds.check(min_examples=4)
    assert set(found(checked)) - BESIDE.get(code, set()) == {code}
    assert checked.report.exit_code == (1 if FAULT_KINDS[code].severity == "error" else 0)


def test_a_copy_at_another_rate_is_found(sounds):
    _copy("test", _half_rate, 8000)(sounds)
    assert set(found(sounds.check(min_examples=4))) == {"leak-near", "mixed-rate"}


def test_duplicates_with_other_labels_conflict(sounds):
    _copy("train")(sounds)
    sounds.rows["train"][0][1] = "no"
    checked = sounds.check(min_examples=4)
    assert set(found(checked)) == {"duplicate", "conflicting-labels"}


def test_silence_may_be_silent(sounds):
    _change(np.zeros_like)(sounds)
    sounds.rows["train"][0][1] = "silence"
    assert set(found(sounds.check(min_examples=0))) == {"class-absent"}


def test_the_wanted_rate_is_asked_of_every_file(sounds):
    for row in sounds.rows["train"]:
        row[3] = ""
    checked = sounds.check("train", rate_hz=8000, min_examples=4)
    assert set(found(checked)) == {"wrong-rate"} and len(checked.report.faults) == 2 * EACH


def test_cleaning_drops_what_leaks_from_train(sounds):
    PLANTED["leak-group"](sounds)
    _span("test")(sounds)
    sounds.rows["train"][1][0] = "clips/gone.wav"
    checked = sounds.check(min_examples=4)
    test, train = sorted(write_cleaned(checked.report, checked.listings), key=lambda one: one.split)
    assert (test.kept, test.dropped) == (2 * EACH, {})
    assert train.dropped["leak-group"] == sum(row[2] == "train-speaker-1" for row in sounds.rows["train"])
    assert train.kept + sum(train.dropped.values()) == 2 * EACH
    rows = list(csv.DictReader(train.path.open()))
    assert len(rows) == train.kept and tuple(rows[0]) == COLUMNS
    assert not {row["speaker"] for row in rows} & {"train-speaker-1"}
    assert not [f for f in sounds.check("train-clean", "test").report.faults if f.severity == "error"]


def test_sound_folders_are_checked_and_listed(tmp_path):
    for split in ("train", "test"):
        for label in ("yes", "no"):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(4):
                path = tmp_path / split / label / f"{split}{i}_nohash_0.wav"
                soundfile.write(path, utter(crc32(f"{split} {label} {i}".encode())), RATE)
    assert found(run_check(tmp_path, min_examples=2)) == {}
    (tmp_path / "test" / "no" / "train1_nohash_9.wav").write_bytes(
        (tmp_path / "train" / "no" / "train1_nohash_0.wav").read_bytes()
    )
    checked = run_check(tmp_path, min_examples=2)
    assert set(found(checked)) == {"leak-file", "leak-group"}
    made = {one.split: one for one in write_cleaned(checked.report, checked.listings)}
    assert (made["train"].kept, made["test"].kept) == (6, 9)
    assert next(iter(csv.DictReader(made["train"].path.open())))["speaker"] == "train0"


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "nor is there a <split>.csv"),
        ("file,label\n", "lists nothing"),
        ("file,word\na,b\n", "nor is there a <split>.csv"),
    ],
)
def test_a_list_that_is_none_is_one_error(tmp_path, content, told):
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(EdgeError, match=told) as error:
        run_check(tmp_path)
    assert "\n" not in str(error.value)


def test_pictures_and_sounds_do_not_mix(sounds):
    (sounds.folder / "pictures.csv").write_text("file,label\na.jpg,x\n")
    with pytest.raises(DataError, match="mixes pictures and sounds"):
        sounds.check(min_examples=4)


def test_spans_are_placed_to_the_millisecond():
    tape = utter(1, 4.0)
    clips = [utter(2, 1.0), tape[8000:24000], utter(3, 1.0), 0.3 * tape[17003:33003]]
    words = [fingerprint(resample_for_words(clip, RATE)) for clip in clips]
    assert {pair[:2] for pair in propose_pairs(words)} >= {(1, 3)}
    (span,) = find_shared_spans(words, lambda i: resample_for_comparison(clips[i], RATE))
    assert (span.first, span.second, span.whole) == (1, 3, False)
    assert span.first_s - span.second_s == pytest.approx(9003 / RATE, abs=0.001)
    assert span.overlap_s == pytest.approx(6997 / RATE, abs=0.002)
    assert span.correlation > 0.97


def test_hum_and_silence_are_no_recordings():
    time = np.arange(RATE) / RATE
    hum = [0.1 * np.sin(2 * np.pi * 50 * time + k).astype(np.float32) for k in range(4)]
    tone = [
        0.1 * np.sin(2 * np.pi * 700 * time + k).astype(np.float32) + 0.02 * utter(k, 1.0) for k in range(4)
    ]
    silence = [np.zeros(RATE, np.float32)] * 4
    for clips in (hum, tone, silence):
        words = [fingerprint(resample_for_words(clip, RATE)) for clip in clips]
        assert find_shared_spans(words, lambda i, c=clips: resample_for_comparison(c[i], RATE)) == []


def test_the_page_draws_waves(sounds, capsys, monkeypatch, tmp_path):
    PLANTED["clipped"](sounds)
    PLANTED["leak-group"](sounds)
    sounds.check(min_examples=4)
    page = tmp_path / "out" / "page.html"
    arguments = [
        "edgeai-compress",
        "data",
        "check",
        str(sounds.folder),
        "--report",
        str(page),
        "--min-examples",
        "4",
        "--json",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    assert run_app(app, program="edgeai-compress") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "sounds" and told["warnings"] == 1
    assert "<polygon" in page.read_text() and "leak-group" in page.read_text()


@pytest.mark.data
def test_real_pictures_have_no_false_alarm(shared_data):
    checked = run_check(shared_data / "rice_weeds", ["train"])
    assert found(checked) == {}


@pytest.mark.data
def test_silence_cut_from_one_recording_is_found_in_two_splits(shared_data, tmp_path):
    """Clips of Speech Commands' silence overlap between train and test; words do not."""
    source = shared_data / "speech_commands"
    (tmp_path / "clips").symlink_to(source / "clips")
    for split in ("train", "test"):
        rows = list(csv.DictReader((source / f"{split}.csv").open()))
        kept = [row for row in rows if row["label"] == "silence"][:90] + [
            row for row in rows if row["label"] == "go"
        ][:40]
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
    faults = found(run_check(tmp_path))
    assert len(faults["leak-span"]) >= 10
    assert {fault.file.split("/")[1] for fault in faults["leak-span"] + faults["leak-near"]} == {"silence"}
