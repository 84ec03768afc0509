"""Writing bundles: all or nothing, and never over something that is no bundle."""

from __future__ import annotations

import json
import threading

import pytest
from tiny_bundle import picture_fields, picture_files, write_picture_bundle

from edgeai.bundle import load_bundle, write
from edgeai.bundle.bundle import Bundle
from edgeai.errors import BundleError, BundleManifestError


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_writes_into_a_new_place_and_leaves_nothing_beside(tmp_path):
    bundle = write_picture_bundle(tmp_path / "deep" / "tiny")
    assert isinstance(bundle, Bundle)
    assert names(tmp_path / "deep") == ["tiny"]
    assert sorted(tree(bundle.folder)) == [
        "golden.npz", "labels.txt", "manifest.json", "model_float32.tflite", "model_int8.tflite",
    ]  # fmt: skip
    assert (bundle.folder.stat().st_mode & 0o777) == 0o755


def test_same_input_gives_the_same_bytes(tmp_path):
    first, second = write_picture_bundle(tmp_path / "a"), write_picture_bundle(tmp_path / "b")
    assert tree(first.folder) == tree(second.folder)


def test_files_may_lie_in_folders(tmp_path):
    files = picture_files() | {"notes/deep/card.md": b"hello"}
    bundle = write.write_bundle(tmp_path / "tiny", picture_fields(), files)
    assert bundle.path("notes/deep/card.md").read_bytes() == b"hello"


@pytest.mark.parametrize("exchange", [True, False])
def test_replaces_a_bundle_and_keeps_unlisted_files(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(write, "_exchange", lambda first, second: False)
    folder = tmp_path / "tiny"
    write.write_bundle(folder, picture_fields(), picture_files() | {"old.txt": b"old"})
    (folder / "recipe.toml").write_text("keep = true\n")
    write.write_bundle(folder, picture_fields() | {"version": "2.0.0"}, picture_files())
    assert load_bundle(folder).manifest.version == "2.0.0"
    assert (folder / "recipe.toml").read_text() == "keep = true\n"
    assert not (folder / "old.txt").exists()
    assert names(tmp_path) == ["tiny"]


def test_a_model_folder_with_a_recipe_becomes_a_bundle(tmp_path):
    (tmp_path / "recipe.toml").write_text("x = 1\n")
    write_picture_bundle(tmp_path)
    assert "recipe.toml" in tree(tmp_path)
    load_bundle(tmp_path)


def test_refuses_a_folder_of_other_things(tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(BundleError, match=r"holds 'thesis\.doc'"):
        write_picture_bundle(tmp_path)
    assert tree(tmp_path) == {"thesis.doc": b"years of work"}


def test_refuses_to_write_over_a_file(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        write_picture_bundle(tmp_path / "x")


def test_refuses_to_replace_a_broken_bundle(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="is broken"):
        write_picture_bundle(tmp_path)


FAULTS = {
    "source missing": (picture_fields, lambda f: f | {"more.bin": "nowhere"}),
    "path leaves": (picture_fields, lambda f: f | {"../more.bin": b"x"}),
    "manifest given": (picture_fields, lambda f: f | {"manifest.json": b"x"}),
    "unknown key": (lambda: picture_fields() | {"licens": ""}, lambda f: f),
    "content missing": (picture_fields, lambda f: {k: v for k, v in f.items() if k != "model_int8.tflite"}),
    "files wrong": (lambda: picture_fields() | {"files": ["a"]}, lambda f: f),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("existing", [True, False])
def test_a_fault_leaves_everything_as_it_was(tmp_path, case, existing):
    folder = tmp_path / "tiny"
    if existing:
        write_picture_bundle(folder)
    before = tree(tmp_path)
    fields, change = FAULTS[case]
    files = {k: tmp_path / v if isinstance(v, str) else v for k, v in change(picture_files()).items()}
    with pytest.raises(BundleError):
        write.write_bundle(folder, fields(), files)
    assert tree(tmp_path) == before
    assert len(names(tmp_path)) == (1 if existing else 0)


@pytest.mark.parametrize("call", ["_put", "_sync_folders", "_swap"])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, monkeypatch, call):
    folder = tmp_path / "tiny"
    write_picture_bundle(folder)
    before = tree(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, call, fail)
    with pytest.raises(BundleError, match="No space left"):
        write_picture_bundle(folder)
    assert tree(tmp_path) == before
    assert names(tmp_path) == ["tiny"]


def test_a_reader_never_sees_half_a_bundle(tmp_path):
    folder = tmp_path / "tiny"
    fields, files = picture_fields(), picture_files()
    write.write_bundle(folder, fields, files)
    stop, seen, faults = threading.Event(), set(), []

    def read():
        while not stop.is_set():
            try:
                text = (folder / "manifest.json").read_text()
                seen.add(json.loads(text)["version"])
            except (OSError, ValueError) as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(10):
        write.write_bundle(folder, fields | {"version": f"1.0.{number}"}, files)
    stop.set()
    reader.join()
    assert faults == []
    assert seen


def test_manifest_fields_must_have_content(tmp_path):
    with pytest.raises(BundleManifestError, match="no content is given"):
        write.write_bundle(tmp_path / "x", picture_fields(), {})
