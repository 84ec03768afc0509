"""What the wheel takes from the zoo: manifest, card, labels, recipe, golden and the int8 TFLite, and it verifies."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from tiny_bundle import write_keyword_bundle

from edgeai.bundle.bundle import load_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def zoo():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_zoo", ROOT / "hatch_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add_model(models, name, files):
    folder = models / name
    folder.mkdir(parents=True)
    entries = []
    for path, kind in files.items():
        (folder / path).write_bytes(b"x")
        entries.append({"path": path, "bytes": 1, "sha256": "0" * 64} | kind)
    for extra in ("card.md", "recipe.toml", "notes.txt"):
        (folder / extra).write_text("x")
    (folder / "manifest.json").write_text(
        json.dumps({"schema": 1, "name": name, "files": entries, "golden": "golden.npz"})
    )
    return folder


INT8 = {"format": "tflite", "precision": "int8"}
FLOAT = {"format": "tflite", "precision": "float16"}
ONNX = {"format": "onnx", "precision": "float32"}


def test_only_the_int8_tflite_is_taken(zoo, tmp_path):
    add_model(
        tmp_path / "models",
        "m",
        {
            "m.tflite": INT8,
            "m16.tflite": FLOAT,
            "m.onnx": ONNX,
            "labels.txt": {},
            "golden.npz": {},
            "network.keras": {},
        },
    )
    files = zoo.zoo_files(tmp_path / "models", tmp_path / "written")
    assert set(files.values()) == {
        *("m/manifest.json", "m/m.tflite", "m/labels.txt", "m/golden.npz", "m/card.md", "m/recipe.toml")
    }
    written = json.loads((tmp_path / "written/m/manifest.json").read_text())
    assert {entry["path"] for entry in written["files"]} == {"m.tflite", "labels.txt", "golden.npz"}
    assert (written["golden"], written["schema"]) == ("golden.npz", 1)


@pytest.mark.parametrize("files", [{"m.onnx": ONNX}, {"m16.tflite": FLOAT}])
def test_a_model_without_one_is_left_out(zoo, tmp_path, files):
    add_model(tmp_path / "models", "m", files)
    assert zoo.zoo_files(tmp_path / "models", tmp_path / "written") == {}


def test_no_zoo_is_no_fault(zoo, tmp_path):
    assert zoo.zoo_files(tmp_path / "models", tmp_path / "written") == {}


def test_a_broken_zoo_stops_the_build(zoo, tmp_path):
    folder = add_model(tmp_path / "models", "m", {"m.tflite": INT8})
    (folder / "m.tflite").unlink()
    with pytest.raises(ValueError, match=r"lists m\.tflite, which is not there"):
        zoo.zoo_files(tmp_path / "models", tmp_path / "one")
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="not a manifest"):
        zoo.zoo_files(tmp_path / "models", tmp_path / "two")


def test_the_zoo_of_this_repository_can_be_packed(zoo, tmp_path):
    files = zoo.zoo_files(ROOT / "models", tmp_path / "written")
    assert all(Path(source).is_file() for source in files)


def test_what_was_packed_verifies(zoo, tmp_path):
    models = tmp_path / "models"
    write_keyword_bundle(models / "keyword")
    for source, target in zoo.zoo_files(models, tmp_path / "written").items():
        place = tmp_path / "wheel" / target
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(Path(source).read_bytes())
    packed = load_bundle(tmp_path / "wheel/keyword")
    assert [(entry.format, entry.precision) for entry in packed.manifest.engine_files] == [("tflite", "int8")]
