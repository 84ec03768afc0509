"""Each command in the README, typed as written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib
from tiny_recipe import squares_recipe

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]

pytestmark = [pytest.mark.data, pytest.mark.compress]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command_runs(command: str, shared_data: Path, tmp_path: Path) -> None:
    words = [word.replace("../shared/data", str(shared_data)) for word in shlex.split(command)]
    words[0] = str(Path(sys.executable).parent / words[0])
    if "--out" in words:
        out = words.index("--out") + 1
        words[out] = str(tmp_path / Path(words[out]).name)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


def test_readme_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_readme_example_configuration_is_valid(tmp_path: Path) -> None:
    from edgeai.config import load_config

    example, cameras, engines, reporting, link = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[:5]
    path = tmp_path / "device.toml"
    path.write_text(cameras)
    config = load_config(path)
    assert [camera.name for camera in config.cameras] == ["road", "field"]
    assert config.cameras[0].login is not None
    assert config.cameras[0].motion is not None
    assert config.cameras[1].capture.every_s == 600
    assert config.metrics is not None
    path.write_text(example + engines)
    config = load_config(path)
    assert config.cameras[0].rules
    assert (config.engines.verify, config.engines.dla) == (True, 0)
    # the second [mqtt] goes on where the first left off
    broker, rest = example.split("\n[[cameras]]", 1)
    beside = reporting.split("\n", 1)[1]
    path.write_text(f"{broker}\n{beside}\n[[cameras]]{rest}")
    config = load_config(path)
    assert config.mqtt is not None
    assert all((config.mqtt.frigate, config.mqtt.hermes, config.mqtt.home_assistant, config.mqtt.sparkplug))
    assert [sink.name for sink in config.sinks] == ["log", "office"]
    path.write_text(f"{broker}\n{link}\n[[cameras]]{rest}")
    config = load_config(path)
    assert config.mqtt is not None
    assert config.mqtt.link is not None
    assert config.mqtt.link.daily_bytes.image == 1_000_000


@pytest.mark.compress
def test_readme_passes_fit_behind_a_trained_network() -> None:
    from compress.recipe import parse_recipe

    *_, example = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    recipe = squares_recipe(network={"kind": "bundle", "init": "squares"}, **tomllib.loads(example))
    assert [settings.kind for settings in parse_recipe(recipe, where="README").passes][-1] == "quantize"
