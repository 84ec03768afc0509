"""Whatever a list holds, a check ends in a report or in one EdgeError, and so do cleaning and the page."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.data.check.clean import write_cleaned
from compress.data.check.page import write_check_page
from compress.data.check.run import run_check
from compress.data.grouping import split_set
from edgeai.errors import EdgeError

SCALARS = st.none() | st.booleans() | st.floats() | st.integers(-3, 3) | st.integers() | st.text(max_size=6)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5), max_leaves=6)


def records(*keys):
    known = st.fixed_dictionaries({}, optional=dict.fromkeys(keys, VALUES))
    return st.lists(known | VALUES, max_size=4)


COCO = st.fixed_dictionaries(
    {
        "images": records("id", "file_name", "width", "height", "site"),
        "annotations": records("id", "image_id", "category_id", "bbox", "iscrowd"),
        "categories": records("id", "name"),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def attack(place, out):
    with contextlib.suppress(EdgeError):
        checked = run_check(place, ["fuzz"])
        json.dumps(checked.report.as_json())
        write_check_page(checked.report, checked.listings, out / "page.html")
        write_cleaned(checked.report, checked.listings, out)
    with contextlib.suppress(EdgeError):
        split_set(place, {"a": 0.5, "b": 0.5}, source="fuzz", by="file", out=out, force=True)


@given(COCO)
@settings(max_examples=80)
def test_any_coco(folder, coco):
    place = folder / "coco"
    place.mkdir(exist_ok=True)
    (place / "instances_fuzz.json").write_text(json.dumps(coco))
    attack(place, folder / "out")


@given(st.lists(st.lists(st.text(max_size=8), max_size=6), max_size=5), st.sampled_from([",", "\t", ";"]))
@settings(max_examples=50)
def test_any_csv(folder, rows, comma):
    place = folder / "csv"
    place.mkdir(exist_ok=True)
    text = "\n".join(["file,label,speaker,sample_rate,samples", *(comma.join(row) for row in rows)])
    (place / "fuzz.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    attack(place, folder / "out")
