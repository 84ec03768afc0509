"""Building engines as processes: killed at any point, two at once, on a disk that is full. EDGEAI_KILL_ROUNDS=100 for more."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_bundle import write_keyword_bundle

pytestmark = pytest.mark.system
FAKE = Path(__file__).resolve().parents[1] / "fake_tensorrt.py"
ROUNDS = int(os.environ.get("EDGEAI_KILL_ROUNDS", "6"))
PAD_BYTES = 20_000_000  # so that writing takes a while


class Machine:
    """A device with a recorded TensorRT, whose commands are processes."""

    def __init__(self, folder: Path):
        self.bundle = write_keyword_bundle(folder / "tiny").folder
        self.cache = folder / "cache"
        self.log = folder / "builds.log"
        self.log.touch()

    def begin(self, *arguments, seconds=0.0, pad_bytes=0, **options):
        command = [sys.executable, FAKE, "10.3.0", seconds, pad_bytes, self.log, "engine", *arguments]
        return subprocess.Popen(
            [*map(str, command), "--cache", str(self.cache), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *arguments, **options):
        process = self.begin(*arguments, **options)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        return process.returncode, json.loads(out.splitlines()[-1]), err

    @property
    def builds(self):
        return len(self.log.read_text().splitlines())


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def built(answer):
    (engine,) = answer["engines"]
    return engine["error"] is None and engine["golden_error"] < 1e-4


def test_killed_at_any_point_the_next_start_has_a_right_engine(machine):
    dice = random.Random(0)
    for _ in range(ROUNDS):
        process = machine.begin("build", machine.bundle, seconds=0.02, pad_bytes=PAD_BYTES)
        assert process.stdout.readline() == "building\n"
        time.sleep(
            dice.uniform(0, 0.25)
        )  # the point is the point in time: building, writing, reading back, gone
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        process.stderr.close()
        code, answer, _ = machine.run("build", machine.bundle, pad_bytes=PAD_BYTES)
        assert code == 0
        assert built(answer)
        _, listed, _ = machine.run("list")
        assert len(listed["plans"]) == 1
        assert not list(machine.cache.rglob("*.part"))
        machine.run("clear", *(["--everything"] if dice.random() < 0.5 else []))


def test_two_processes_at_once_build_once(machine):
    first = machine.begin("build", machine.bundle, seconds=1.0)
    assert first.stdout.readline() == "building\n"
    second = machine.begin("build", machine.bundle)
    answers = [
        json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in (first, second)
    ]
    assert all(built(answer) for answer in answers)
    assert machine.builds == 1


def test_a_killed_builder_leaves_its_lock_to_the_waiting_one(machine):
    first = machine.begin("build", machine.bundle, seconds=60)
    assert first.stdout.readline() == "building\n"
    second = machine.begin("build", machine.bundle)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    answer = json.loads(second.communicate(timeout=120)[0].splitlines()[-1])
    assert built(answer)
    assert machine.builds == 2


def test_a_full_disk_costs_the_keeping_and_is_said(machine):
    """The kernel's own limit on a file's size stands for the full disk: write() itself fails."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    for _ in range(2):
        code, answer, err = machine.run("build", machine.bundle, pad_bytes=PAD_BYTES, preexec_fn=limit)
        assert code == 0
        assert built(answer)
        assert "cannot be kept (File too large): it works now" in err
    assert machine.builds == 2
    assert not list(machine.cache.rglob("*.plan"))
    assert not list(machine.cache.rglob("*.part"))


def test_a_flipped_byte_is_noticed_and_built_again(machine):
    machine.run("build", machine.bundle)
    (path,) = machine.cache.rglob("*.plan")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    code, answer, err = machine.run("build", machine.bundle)
    assert code == 0
    assert built(answer)
    assert "the kept plan is broken" in err
    assert machine.builds == 2


def test_a_first_start_builds_before_it_is_ready(machine, tmp_path):
    import socket

    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "silence.wav", np.zeros(16000, np.float32), 16000)
    config = tmp_path / "device.toml"
    config.write_text(
        f'[engines]\ncache = "{machine.cache}"\nverify = true\n'
        f'[[microphones]]\nname = "hall"\nsource = "silence.wav"\nmodel = "{machine.bundle}"\nengine = "plan"\n'
    )
    command = [sys.executable, FAKE, "10.3.0", "0.3", "0", machine.log, "run", config, "--json"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        process = subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=subprocess.PIPE,
            text=True,
        )
        words = told.recv(4096).decode()
        assert words.startswith("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=loading models")
        while words.startswith("EXTEND_TIMEOUT"):
            words = told.recv(4096).decode()
        assert machine.builds == 1
        assert words == "READY=1\nSTATUS=running"
        assert process.communicate(timeout=60)[0].startswith("building\n")
    assert process.returncode == 0


def test_an_engine_that_is_kept_is_not_built_at_the_start(machine):
    machine.run("build", machine.bundle)
    sound = Path(machine.bundle).parent / "silence.wav"
    import numpy as np
    import soundfile

    soundfile.write(sound, np.zeros(16000, np.float32), 16000)
    command = [sys.executable, FAKE, "10.3.0", "0", "0", machine.log, "listen", sound, "--engine", "plan"]
    environment = {**os.environ, "EDGEAI_CACHE": str(machine.cache.parent)}
    machine.cache.rename(machine.cache.parent / "engines")
    done = subprocess.run(
        [*map(str, command), "--bundle", str(machine.bundle), "--verify", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert machine.builds == 1
