"""The README's chapter on one's own data, from an empty folder to a measured bundle, on a small part of five real sets."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = (ROOT / "README.md").read_text(encoding="utf-8").split("### Train on your own data")[1]
COMMANDS = re.findall(r"```console\n(.*?)```", CHAPTER, re.DOTALL)[0].strip().splitlines()
SETS = {
    "deeppcb": "AP50",
    "rice_weeds": "AP50",
    "coco_people": "AP50",
    "speech_commands": "accuracy",
    "fsdd": "accuracy",
}

pytestmark = [pytest.mark.data, pytest.mark.compress, pytest.mark.system]


def copy_pictures(source: Path, target: Path, split: str, *, count: int) -> None:
    coco = json.loads((source / f"instances_{split}.json").read_text())
    boxed = {a["image_id"] for a in coco["annotations"]}
    images = [image for image in coco["images"] if image["id"] in boxed][:count]
    kept = {image["id"] for image in images}
    annotations = [a for a in coco["annotations"] if a["image_id"] in kept]
    for image in images:
        shutil.copy(source / "images" / image["file_name"], target / "images")
    part = {**coco, "images": images, "annotations": annotations}
    (target / f"instances_{split}.json").write_text(json.dumps(part))


def copy_clips(source: Path, target: Path, split: str, *, each: int) -> None:
    """`each` clips of every label, from as many speakers as there are; no silence, whose clips share recordings."""
    with (source / f"{split}.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("label") != "silence"]
    column = "label" if "label" in rows[0] else "digit"
    taken: dict[str, list[str]] = {}
    kept = []
    for row in sorted(rows, key=lambda row: row["file"][::-1]):  # speakers mixed
        files = taken.setdefault(row[column], [])
        if len(files) < each:
            files.append(row["file"])
            kept.append(row)
    for row in kept:
        (target / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["file"], target / row["file"])
    with (target / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)


def test_the_chapter_has_its_four_commands() -> None:
    assert [line.split()[1] for line in COMMANDS] == ["data", "new", "run", "eval"]


@pytest.mark.parametrize("name", SETS)
def test_from_a_folder_to_a_measured_bundle(name: str, shared_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / name
    (data / "images").mkdir(parents=True)
    pictures = SETS[name] == "AP50"
    for split in ("train", "test"):
        if pictures:
            copy_pictures(shared_data / name, data, split, count=24 if split == "train" else 6)
        else:
            copy_clips(shared_data / name, data, split, each=8 if split == "train" else 2)
    told = ""
    for line in COMMANDS:
        words = shlex.split(line.replace("../shared/data/rice_weeds", str(data)))
        words = [word.replace("../shared/data", str(data.parent)) for word in words]
        if words[1] == "new":
            words += ["--steps", "8", *(["--size", "96"] if pictures else [])]
        words = [str(Path(sys.executable).parent / words[0]), *words[1:], "--json"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, (line, done.stdout[-600:], done.stderr[-2000:])
        assert "Traceback" not in done.stderr
        told = done.stdout
    figures = json.loads(told)
    assert list(figures)[:7] == ["metric", "value", "ci95", "n", "engine", "bytes", "ms_p50"]
    assert figures["metric"] == SETS[name]
    assert 0 <= figures["value"] <= 1
    assert figures["engine"] == "tflite/int8"
