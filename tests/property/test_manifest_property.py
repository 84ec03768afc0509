"""Manifests: any valid one survives writing and reading; any broken one ends in a BundleError."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import write_picture_bundle

from edgeai.bundle import load_bundle
from edgeai.bundle.bundle import find_bundle
from edgeai.bundle.golden import read_golden
from edgeai.bundle.manifest import Manifest
from edgeai.bundle.schema import dump_manifest, parse_manifest
from edgeai.engines import open_engine
from edgeai.errors import BundleManifestError, EdgeError

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
number = st.floats(-1e6, 1e6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
triples = st.tuples(number, number, number)
images = st.fixed_dictionaries(
    {
        "kind": st.just("image"),
        "name": text,
        "width": st.integers(8, 8192),
        "height": st.integers(8, 8192),
        "colour": st.sampled_from(["BGR", "RGB"]),
        "layout": st.sampled_from(["NHWC", "NCHW"]),
        "resize": st.sampled_from(["letterbox", "stretch"]),
        "anchor": st.sampled_from(["corner", "centre"]),
        "pad": st.integers(0, 255),
        "mean": triples,
        "std": st.tuples(*[st.floats(1e-6, 1e6)] * 3),
    }
)
files = st.lists(
    st.fixed_dictionaries(
        {
            "path": names.filter(lambda n: n not in {"manifest.json"}),
            "bytes": st.integers(0, 1 << 29),
            "sha256": st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            "format": st.sampled_from(["tflite", "onnx", "plan"]),
            "precision": st.sampled_from(["float32", "float16", "dynamic", "int8"]),
            "tolerance": st.floats(0, 1),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda entry: entry["path"],
)
manifests = st.fixed_dictionaries(
    {
        "schema": st.just(1),
        "name": names,
        "version": text,
        "task": st.sampled_from(["detect", "classify"]),
        "input": images,
        "decoder": st.fixed_dictionaries(
            {"name": text, "params": st.dictionaries(text, json_values, max_size=3)}
        ),
        "labels": st.lists(text, max_size=5),
        "files": files,
        "licence": text,
        "provenance": st.dictionaries(text, json_values, max_size=3),
        "recipe": st.dictionaries(text, json_values, max_size=3),
        "measured": st.lists(
            st.fixed_dictionaries(
                {"metric": text, "value": number, "ci95": st.none() | st.tuples(number, number)}
            ),
            max_size=2,
        ),
    }
)


@given(manifests)
def test_manifest_round_trip(fields):
    manifest = Manifest.model_validate(fields)
    assert parse_manifest(dump_manifest(manifest)) == manifest


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_manifest_error(data):
    with pytest.raises(BundleManifestError):
        parse_manifest(data)


@given(json_values)
def test_any_json_is_a_manifest_or_a_manifest_error(value):
    with pytest.raises(BundleManifestError):
        parse_manifest(json.dumps(value).encode())


@given(manifests, st.data())
def test_one_wrong_value_is_a_manifest_error(fields, data):
    node, key = fields, data.draw(st.sampled_from(sorted(fields)))
    while isinstance(node[key], dict) and node[key] and data.draw(st.booleans()):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node)))
    node[key] = data.draw(json_values)
    try:
        parse_manifest(json.dumps(fields).encode())
    except BundleManifestError as error:
        assert "\n" not in str(error)


@given(st.text(max_size=60))
def test_any_name_is_a_bundle_or_missing(where):
    try:
        find_bundle(where)
    except EdgeError:
        return


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_picture_bundle(tmp_path_factory.mktemp("fuzz") / "tiny").folder


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_bundle_is_always_caught(folder, tmp_path_factory, data):
    """Any byte changed, any cut, in any file: the hash check sees it before an interpreter does."""
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("copy") / "tiny")
    path = copy / data.draw(st.sampled_from(sorted(p.name for p in copy.iterdir())))
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[where] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:where]
    path.write_bytes(content)
    try:
        with open_engine(load_bundle(copy)):
            # only the manifest's text can change without a trace: a tolerance, a label, white space
            assert path.name == "manifest.json"
    except EdgeError as error:
        assert "\n" not in str(error)


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_golden_file_is_read_or_refused(folder, tmp_path_factory, data):
    content = bytearray((folder / "golden.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("golden") / "golden.npz"
    path.write_bytes(content)
    try:
        read_golden(path)
    except EdgeError as error:
        assert "\n" not in str(error)
