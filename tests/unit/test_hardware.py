"""Identifying a machine: captured trees give known facts, and nothing read can make it fail."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai import hardware
from edgeai.hardware import (
    Camera,
    device_facts,
    library_versions,
    microphones,
    parse_l4t,
    parse_smi,
    read_hardware,
)

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp crc32\nCPU part\t: 0xd42\n",
    "proc/meminfo": "MemTotal:        7802340 kB\nMemFree: 1 kB\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
    "sys/class/video4linux/video10/name": "USB camera\n",
    "sys/class/video4linux/video10/index": "0\n",
    "sys/class/video4linux/video2/name": "USB camera metadata\n",
    "sys/class/video4linux/video2/index": "1\n",
}


@pytest.fixture
def tree(tmp_path):
    for path, text in ORIN.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_a_captured_jetson(tree):
    found = read_hardware(tree, ask_gpu=False)
    assert found.board == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert found.compatible[0] == "nvidia,p3768-0000+p3767-0005-super"
    assert found.cpu == "ARM part 0xd42"
    assert found.cpu_flags == ("asimd", "asimdhp", "asimddp")
    assert (found.ram_mb, found.system, found.l4t) == (7619, "Ubuntu 22.04.5 LTS", "36.4.3")
    assert found.cameras == (
        Camera("/dev/video0", "vi-output, imx219 9-0010"),
        Camera("/dev/video10", "USB camera"),
    )


def test_a_pc_is_named_by_dmi(tmp_path):
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "sys_vendor").write_text("Dell Inc.\n")
    (dmi / "product_name").write_text("OptiPlex 7010\n")
    assert read_hardware(tmp_path, ask_gpu=False).board == "Dell Inc. OptiPlex 7010"


def test_an_empty_tree_gives_empty_facts(tmp_path):
    found = read_hardware(tmp_path, ask_gpu=False)
    assert (found.board, found.l4t, found.cpu, found.ram_mb, found.cameras) == ("", "", "", None, ())
    assert "cores" in found.label


@given(st.binary(max_size=300))
def test_nothing_in_the_files_makes_it_fail(tmp_path_factory, content):
    root = tmp_path_factory.mktemp("tree")
    for path in ORIN:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    json.dumps(device_facts(read_hardware(root, ask_gpu=False)))


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t210ref, EABI: aarch64", "32.7.6"),
        ("# R35 (release), REVISION: 6.4, GCID: 1, BOARD: generic", "35.6.4"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "38.2.0"),
        ("# R41 (release), REVISION: 1, GCID: 1", "41.1"),
        ("Debian", ""),
        ("", ""),
    ],
)
def test_l4t_releases_known_and_to_come(text, release):
    assert parse_l4t(text) == release


def test_graphics_cards():
    cards = parse_smi(
        "NVIDIA RTX A2000, 12GB, 8.6, 12282, 550.54\nOrin (nvgpu), 8.7, [N/A], 540.4.0\n\njunk\n, , , \n"
    )
    assert [(c.name, c.sm, c.memory_mb) for c in cards] == [
        ("NVIDIA RTX A2000, 12GB", 86, 12282),
        ("Orin (nvgpu)", 87, None),
    ]
    assert parse_smi("RTX 5090, 12.0, 32607, 575.1")[0].sm == 120


@given(st.text())
def test_no_answer_of_tools_makes_it_fail(text):
    parse_smi(text)
    parse_l4t(text)


def test_versions_are_read_without_importing():
    before = set(sys.modules)
    versions = library_versions()
    assert versions["python"]
    assert versions["numpy"]
    assert set(versions) == {"python", "edgeai", *hardware.LIBRARIES}
    assert not {"tensorflow", "onnxruntime", "ai_edge_litert", "cv2"} & (set(sys.modules) - before)


def test_facts_are_json_and_name_nobody():
    facts = device_facts()
    assert facts == json.loads(json.dumps(facts))
    assert facts["cpu_cores"] >= 1
    assert not {"serial", "hostname", "mac"} & set(facts)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ('["pulse", "default"]\n', ("pulse", "default")),
        ("ALSA lib confmisc.c: noise\n[]\n", ()),
        ("", None),
        ("no list", None),
        ("3", None),
    ],
)
def test_microphones_as_portaudio_answers(monkeypatch, answer, names):
    monkeypatch.setattr(hardware, "_output", lambda command, timeout_s: answer)
    assert microphones() == names
