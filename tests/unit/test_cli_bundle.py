"""`edgeai bundle show|verify`, as the command line calls them."""

from __future__ import annotations

import json

import pytest
from tiny_bundle import picture_fields, picture_files, write_keyword_bundle, write_picture_bundle

from edgeai.bundle import write_bundle
from edgeai.cli.bundle import show_bundle, verify_bundle
from edgeai.engines import tflite
from edgeai.errors import BundleHashError, GoldenMismatchError


@pytest.fixture
def bundle(tmp_path):
    return write_picture_bundle(tmp_path / "tiny-picture")


def test_show(bundle, capsys):
    assert show_bundle(str(bundle.folder)) == 0
    out = capsys.readouterr().out
    for text in (
        "tiny-picture 1.0.0: detect, 16x16 BGR NHWC letterbox, decoder grid",
        "4 labels: a, b",
        "tflite/int8",
    ):
        assert text in out


def test_show_needs_no_files(bundle, capsys):
    bundle.path("model_int8.tflite").unlink()
    assert show_bundle(str(bundle.folder), json_output=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"]["schema"] == 1
    assert shown["folder"] == str(bundle.folder)


def test_show_speech(tmp_path, capsys):
    show_bundle(str(write_keyword_bundle(tmp_path / "x").folder))
    assert "keyword, 10 frames of 8 mels at 16000 Hz" in capsys.readouterr().out


def test_verify(bundle, capsys):
    assert verify_bundle(str(bundle.folder)) == 0
    out = capsys.readouterr().out
    assert "of 0.03" in out
    assert verify_bundle(str(bundle.folder), json_output=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    states = {row["path"]: row for row in report["files"]}
    assert set(states["model_int8.tflite"]["golden"]) == {"grid", "scores"}
    assert states["labels.txt"]["golden"] is None


def test_verify_never_opens_a_changed_engine(bundle, capsys, monkeypatch):
    path = bundle.path("model_int8.tflite")
    data = bytearray(path.read_bytes())
    data[50] ^= 0xFF
    path.write_bytes(data)
    opened = []
    real = tflite._check_file
    monkeypatch.setattr(tflite, "_check_file", lambda p: (opened.append(p.name), real(p)))
    with pytest.raises(BundleHashError, match="changed"):
        verify_bundle(str(bundle.folder), json_output=True)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [row["ok"] for row in report["files"]] == [False, True, True, True]
    assert opened == ["model_float32.tflite"]


def test_verify_tells_wrong_outputs(tmp_path, capsys):
    fields = picture_fields()
    fields["files"][0]["tolerance"] = 1e-6
    bundle = write_bundle(tmp_path / "x", fields, picture_files())
    with pytest.raises(GoldenMismatchError, match="allowed is 1e-06"):
        verify_bundle(str(bundle.folder))
    assert " bad" in capsys.readouterr().out


def test_verify_without_golden_or_library(tmp_path, capsys, monkeypatch):
    plain = write_bundle(tmp_path / "x", picture_fields() | {"golden": None}, picture_files())
    assert verify_bundle(str(plain.folder)) == 0
    assert "has no golden file" in capsys.readouterr().out
    bundle = write_picture_bundle(tmp_path / "y")
    monkeypatch.setattr(tflite, "find_spec", lambda name: None)
    assert verify_bundle(str(bundle.folder)) == 0
    assert "not run here" in capsys.readouterr().out


def test_verify_with_a_changed_golden_file(bundle, capsys):
    bundle.path("golden.npz").write_bytes(b"x")
    with pytest.raises(BundleHashError, match=r"golden\.npz: truncated"):
        verify_bundle(str(bundle.folder))
    capsys.readouterr()
