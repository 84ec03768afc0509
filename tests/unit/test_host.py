"""Where engines are kept, and which profile a machine has: from the environment and the machine's own files."""

from __future__ import annotations

import pytest

from edgeai.cli import host as module
from edgeai.cli.host import engine_cache, this_host
from edgeai.config import EnginesSettings
from edgeai.errors import EdgeError
from edgeai.hardware import machine_key, nvidia_driver, nvidia_gpus, read_l4t

PLACES = ("EDGEAI_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME")


@pytest.fixture
def bare(monkeypatch):
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_the_places_in_their_order(bare, tmp_path):
    bare.setenv("HOME", str(tmp_path))
    assert engine_cache() == tmp_path / ".cache/edgeai/engines"
    bare.setenv("XDG_CACHE_HOME", "/x")
    assert str(engine_cache()) == "/x/edgeai/engines"
    bare.setenv("CACHE_DIRECTORY", "/var/cache/edgeai:/var/cache/other")
    assert str(engine_cache()) == "/var/cache/edgeai/engines"
    bare.setenv("EDGEAI_CACHE", "/own")
    assert str(engine_cache()) == "/own/engines"
    assert str(this_host(EnginesSettings(cache="/told")).cache) == "/told"


def test_no_home_is_told(bare):
    def no_home():
        raise RuntimeError("no home")

    bare.setattr(module.Path, "home", no_home)
    with pytest.raises(EdgeError, match="no home folder to keep engines in; set EDGEAI_CACHE"):
        engine_cache()


def test_a_plain_pc_needs_no_profile_and_a_gpu_has_one(bare, monkeypatch):
    monkeypatch.setattr(module, "nvidia_gpus", tuple)
    assert this_host().profile is None
    monkeypatch.setattr(module, "nvidia_gpus", lambda: ("RTX 4090",))
    profile = this_host().profile
    assert profile is None or (profile.name, profile.formats.value[0]) == ("x86-nvidia", "plan")


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_nvidia_by_files_alone(tmp_path):
    assert nvidia_gpus(tmp_path) == ()
    assert nvidia_driver(tmp_path) is None
    key = machine_key(tmp_path)
    write(
        tmp_path,
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        "Model: \t NVIDIA GeForce RTX 4090\nIRQ: 1\n",
    )
    write(
        tmp_path,
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu\n",
    )
    assert nvidia_gpus(tmp_path) == ("NVIDIA GeForce RTX 4090",)
    assert nvidia_driver(tmp_path) == 550
    assert machine_key(tmp_path) != key
    board = tmp_path / "board"
    write(board, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n")
    assert (nvidia_gpus(board), read_l4t(board)) == (("integrated",), "36.4.3")
