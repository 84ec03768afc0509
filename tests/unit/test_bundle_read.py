"""Reading bundles: what is whole is read, what is not is told in one line that names file and cause."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from tiny_bundle import write_keyword_bundle, write_picture_bundle

from edgeai.bundle import load_bundle
from edgeai.bundle.manifest import MAX_MANIFEST_BYTES
from edgeai.bundle.schema import parse_manifest, upgrade_manifest
from edgeai.errors import BundleError, BundleHashError, BundleManifestError, BundleMissingError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_picture_bundle(tmp_path_factory.mktemp("bundle") / "tiny-picture").folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tiny-picture")


def edit(folder, change):
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields, indent=2))


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_reads_what_was_written(folder):
    bundle = load_bundle(folder)
    assert bundle.name == "tiny-picture"
    assert bundle.labels == ("a", "b", "c", "d")
    assert bundle.path("labels.txt").read_bytes() == b"a\nb\nc\nd\n"
    assert bundle.engine_file("tflite", "float32").path == "model_float32.tflite"
    assert bundle.engine_file().precision == "int8"
    assert load_bundle(str(folder)) == bundle


def test_unlisted_files_are_refused_by_name(folder):
    bundle = load_bundle(folder)
    with pytest.raises(BundleError, match=r"no file 'other\.bin'.*labels\.txt"):
        bundle.path("other.bin")
    with pytest.raises(BundleError, match=r"no onnx/.* engine file; there are tflite/int8, tflite/float32"):
        bundle.engine_file("onnx")


@pytest.mark.parametrize(
    "where", ["", "no-such-model", "./no/such/folder", "a\0b", "x" * 5000, "~nobody-at-all/x"]
)
def test_missing_bundle(where):
    with pytest.raises(BundleMissingError) as error:
        load_bundle(where)
    one_line(error)


def test_a_file_is_no_bundle(folder):
    with pytest.raises(BundleMissingError, match="is a file"):
        load_bundle(folder / "labels.txt")


def test_a_zoo_name_is_looked_up(folder, monkeypatch):
    import edgeai.data

    monkeypatch.setattr(edgeai.data, "data_root", lambda: folder.parent)
    (folder.parent / "models").mkdir()
    folder.rename(folder.parent / "models" / "tiny-picture")
    assert load_bundle("tiny-picture").name == "tiny-picture"
    with pytest.raises(BundleMissingError, match="neither a folder here nor a model of the zoo"):
        load_bundle("tiny-speech")


def test_folder_without_manifest(tmp_path):
    with pytest.raises(BundleManifestError, match=r"has no manifest\.json"):
        load_bundle(tmp_path)


def test_changed_byte(folder):
    path = folder / "model_int8.tflite"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        BundleHashError, match=r"model_int8\.tflite: changed.*expected.*copy the bundle again"
    ) as error:
        load_bundle(folder)
    one_line(error)
    load_bundle(folder, verify=False)


def test_truncated_file(folder):
    path = folder / "model_int8.tflite"
    whole = path.stat().st_size
    os.truncate(path, 100)
    with pytest.raises(BundleHashError, match=rf"truncated, 100 of {whole} bytes"):
        load_bundle(folder)


def test_longer_file(folder):
    with (folder / "labels.txt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleHashError, match="longer than listed"):
        load_bundle(folder)


def test_missing_file(folder):
    (folder / "golden.npz").unlink()
    with pytest.raises(BundleHashError, match=r"golden\.npz: listed in manifest\.json but missing"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["labels.txt", "manifest.json"])
def test_a_link_out_of_the_folder_is_refused(folder, name):
    outside = folder.parent / "outside"
    shutil.copy(folder / name, outside)
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        load_bundle(folder)


def test_a_link_inside_the_folder_is_followed(folder):
    (folder / "labels.txt").rename(folder / "real.txt")
    (folder / "labels.txt").symlink_to("real.txt")
    load_bundle(folder)


@pytest.mark.parametrize("name", ["labels.txt", "manifest.json"])
def test_a_fifo_does_not_hang(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(folder)


def test_a_folder_in_place_of_a_file(folder):
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").mkdir()
    with pytest.raises(BundleHashError):
        load_bundle(folder)


def test_a_loop_of_links(folder):
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to("labels.txt")
    with pytest.raises(BundleHashError):
        load_bundle(folder)


CHANGES = {
    "unknown key": (lambda m: m.update(lables=[]), r"line \d+: unknown key 'lables'; did you mean 'labels'"),
    "unknown key, nothing near": (
        lambda m: m.update(zzz=1),
        "unknown key 'zzz'; known are schema, name",
    ),
    "unknown key of the input": (
        lambda m: m["input"].update(widht=1),
        r"'input\.widht'; did you mean 'width'",
    ),
    "unknown key of a file": (
        lambda m: m["files"][1].update(sha=1),
        r"unknown key 'files\.1\.sha'; ",
    ),
    "missing key": (lambda m: m.pop("task"), "key 'task' is missing"),
    "wrong type": (
        lambda m: m["input"].update(width="wide"),
        r"line \d+: input\.width: .*is 'wide'",
    ),
    "out of range": (
        lambda m: m["input"].update(height=0),
        r"input\.height: .*greater than or equal to 8",
    ),
    "std of zero": (lambda m: m["input"].update(std=[0, 1, 1]), "std must be above 0"),
    "unknown kind": (
        lambda m: m["input"].update(kind="lidar"),
        r"input\.kind: must be one of 'image', 'logmel', is 'lidar'",
    ),
    "path up": (lambda m: m["files"][0].update(path="../x"), "leaves the bundle"),
    "absolute path": (lambda m: m["files"][0].update(path="/etc/passwd"), "leaves the bundle"),
    "path of two spellings": (lambda m: m["files"][0].update(path="./x"), "must be plain"),
    "the manifest itself": (lambda m: m["files"][0].update(path="manifest.json"), "must be plain"),
    "twice": (lambda m: m["files"].append(m["files"][0]), "listed twice"),
    "format alone": (lambda m: m["files"][0].update(precision=None), "both format and precision"),
    "no engine": (lambda m: m.update(files=[f for f in m["files"] if not f["format"]]), "no engine file"),
    "golden unlisted": (lambda m: m.update(golden="other.npz"), "golden file is not among"),
    "task and input": (lambda m: m.update(task="keyword"), "needs an input of kind 'logmel'"),
    "schema absent": (lambda m: m.pop("schema"), "'schema' must be a whole number"),
    "schema of the future": (
        lambda m: m.update(schema=2),
        "schema 2 is newer than this edgeai reads.*pip install -U",
    ),
    "schema of the past": (lambda m: m.update(schema=0), "schema 0 is not known"),
    "name": (lambda m: m.update(name="../up"), "name must be lower case"),
    "huge file": (lambda m: m["files"][0].update(bytes=1 << 40), "less than or equal to"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_manifest_faults_name_the_key(folder, case):
    change, wanted = CHANGES[case]
    edit(folder, change)
    with pytest.raises(BundleManifestError, match=wanted) as error:
        load_bundle(folder)
    assert "manifest.json" in one_line(error)


def test_many_faults_are_counted(folder):
    edit(folder, lambda m: m.update(a=1, b=2, c=3, d=4, e=5))
    with pytest.raises(BundleManifestError, match="and 2 more"):
        load_bundle(folder)


TEXTS = {
    "empty": (b"", "empty"),
    "cut": (b'{"schema": 1,\n "name": "x', ":2: not JSON"),
    "list": (b"[]", "must be a JSON object"),
    "not utf-8": (b'{"schema": "\xff"}', "not JSON"),
    "key twice": (b'{"schema": 1, "schema": 1}', "'schema' is given twice"),
    "nan": (b'{"schema": NaN}', "NaN is not a JSON number"),
    "deep": (b'{"schema": ' + b"[" * 100_000, "nested too deeply"),
    "digits": (b'{"schema": ' + b"9" * 10_000 + b"}", "not JSON"),
    "huge": (b" " * (MAX_MANIFEST_BYTES + 1), "the limit is"),
    "boolean schema": (b'{"schema": true}', "must be a whole number"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_that_are_no_manifest(case):
    text, wanted = TEXTS[case]
    with pytest.raises(BundleManifestError, match=wanted) as error:
        parse_manifest(text)
    one_line(error)


def test_upgrades_run_one_by_one_and_leave_the_original_alone():
    raw = {"schema": 1, "name": "x"}
    upgrades = {1: lambda m: {**m, "two": True}, 2: lambda m: {**m, "three": m["two"]}}
    assert upgrade_manifest(raw, upgrades=upgrades, to=3) == {
        "schema": 3,
        "name": "x",
        "two": True,
        "three": True,
    }
    assert raw == {"schema": 1, "name": "x"}


def test_keyword_bundle(tmp_path):
    bundle = write_keyword_bundle(tmp_path / "b")
    assert [entry.precision for entry in bundle.manifest.engine_files] == [
        "float32",
        "float16",
        "dynamic",
        "int8",
        "float32",
    ]
