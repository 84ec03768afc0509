"""Report pages: nothing is fetched, nothing from a manifest becomes markup, charts say what they show."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_bundle import picture_fields, picture_files, write_keyword_bundle

from compress.report.bundle import write_bundle_report
from edgeai.bundle import write_bundle
from edgeai.errors import EdgeError, UsageError
from edgeai.report.page import bar_chart, dot_chart, fold, pairs, picture, table, write_page

VOID = {"meta", "img", "rect", "line", "circle", "br"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects what would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data", "action"} and not (value or "").startswith("data:"):
                self.fetched.append((tag, value))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)


def read_page(path):
    text = path.read_text()
    page = Page(text)
    assert page.fetched == []
    assert "script" not in page.tags
    assert not re.search(
        r"url\(|@import|https?://(?!www\.w3\.org)",
        re.sub(r"<p>.*?</p>|<dd>.*?</dd>|<pre>.*?</pre>", "", text),
    )
    return text


PASSES = [
    {"pass": "train", "kept": True, "seconds": 12.0, "metric": "AP50", "value": 0.5, "ci95": [0.4, 0.6]},
    {"pass": "prune", "kept": False, "reason": "dropped", "metric": "AP50", "value": 0.1, "ci95": [0.0, 0.2]},
]
FIGURES = {"parameters": 1200, "macs": 5_000_000, "bytes": 40_000, "ms_p50": 1.25, "engine": "tflite/int8"}


def bundle_with(folder, **fields):
    return write_bundle(folder, {**picture_fields(), **fields}, picture_files())


def test_a_bundle_without_history_has_a_page(tmp_path):
    text = read_page(write_bundle_report(write_keyword_bundle(tmp_path / "b"), tmp_path / "deep/report.html"))
    assert "tiny-keyword" in text
    assert "Pass by pass" not in text


def test_passes_are_told_with_what_was_undone(tmp_path):
    passes = [{**row, **FIGURES} for row in PASSES]
    bundle = bundle_with(tmp_path / "b", provenance={"passes": passes, "made_by": "a test"})
    text = read_page(write_bundle_report(bundle, tmp_path / "r.html"))
    assert text.count("<svg") == 3
    assert "undone: dropped" in text
    assert "AP50" in text


@pytest.mark.parametrize(
    "provenance",
    [
        {"passes": "none"},
        {"passes": [1, None, {"pass": "x"}]},
        {"passes": [{**PASSES[0], **FIGURES, "bytes": -1}]},
        {"passes": [{**PASSES[0], **FIGURES, "macs": "many"}]},
        {"passes": [{**PASSES[0], **FIGURES, "ci95": "wide"}]},
        {"passes": [{**PASSES[0], **FIGURES, "metric": None, "pass": {"a": 1}, "seconds": []}]},
    ],
)
def test_foreign_provenance_never_breaks_the_page(tmp_path, provenance):
    bundle = bundle_with(tmp_path / "b", provenance=provenance, recipe={"data": {"train": [3, {"kind": []}]}})
    read_page(write_bundle_report(bundle, tmp_path / "r.html"))


def test_nothing_from_a_manifest_becomes_markup(tmp_path):
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
    bundle = bundle_with(
        tmp_path / "b",
        licence=evil,
        version=evil,
        attribution=[evil],
        labels=[evil, "b", "c", "d"],
        provenance={
            "made_by": evil,
            "date": evil,
            "passes": [{**PASSES[0], **FIGURES, "pass": evil, "metric": evil}],
        },
        recipe={"x": evil},
    )
    text = read_page(write_bundle_report(bundle, tmp_path / "r.html"))
    assert "<script" not in text
    assert "<img" not in text


def test_charts_say_their_values_aloud_and_refuse_nonsense():
    chart = bar_chart("sizes", [("a & b", 3.0), ("none", 0.0)], muted={1})
    assert 'aria-label="sizes: a &amp; b: 3, none: 0"' in chart
    Page(chart)
    Page(dot_chart("ap", [("a", 0.5, (0.5, 0.5))]))
    for rows in ([], [("a", float("nan"))], [("a", -1.0)]):
        with pytest.raises(UsageError, match="sizes"):
            bar_chart("sizes", rows)
    with pytest.raises(UsageError):
        dot_chart("ap", [("a", 0.5, (0.1, float("inf")))])


def test_parts_escape_and_check():
    assert "&lt;b&gt;" in table(["<b>"], [["<i>"]])
    assert "&lt;i&gt;" in pairs([("<i>", "<i>")])
    assert "&lt;i&gt;" in fold("<i>", "<i>")
    with pytest.raises(UsageError, match="2 cells"):
        table(["a", "b"], [["only one"]])
    with pytest.raises(UsageError, match="no JPEG"):
        picture(b"GIF89a", "a picture")


def test_a_picture_goes_into_the_page(tmp_path):
    import cv2

    ok, jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    assert ok
    path = write_page(
        tmp_path / "p.html", "A page", [("One", [picture(jpeg.tobytes(), "black"), "plain <text>"])]
    )
    text = read_page(path)
    assert "data:image/jpeg;base64," in text
    assert "plain &lt;text&gt;" in text


def test_a_page_too_large_or_in_no_folder_leaves_the_old_one(tmp_path):
    path = write_page(tmp_path / "p.html", "old", [])
    before = path.read_bytes()
    with pytest.raises(EdgeError, match="at most"):
        write_page(path, "new", [("x", ["y" * (4 << 20)])])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]
    with pytest.raises(EdgeError, match="cannot be written"):
        write_page(path / "below" / "r.html", "new", [])
