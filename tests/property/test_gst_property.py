"""Whatever the text of a pipeline, only what is in the tables comes out of it, or one clear error."""

from __future__ import annotations

import pytest
from gstreamer_here import require_gstreamer
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.errors import EdgeError
from edgeai.sources.gstreamer.bindings import load_gst
from edgeai.sources.gstreamer.build import build_line
from edgeai.sources.gstreamer.elements import FILTERS, SOURCES
from edgeai.sources.gstreamer.parse import parse_pipeline

WORDS = st.sampled_from(
    [
        *(
            "videotestsrc",
            "filesrc",
            "rtspsrc",
            "fdsrc",
            "queue",
            "filesink",
            "t.",
            "(",
            ")",
            "!",
            "! !",
            "/",
        ),
        *("location=/x", "name=a", "is-live=true", "video/x-raw,width=1", "video/x-raw(memory:NVMM)", "%s"),
        *("=", "=x", "x=", '"', "\\", "\n", "\0", "uri=fd://0", "location=rtsp://u:p@h", "caps=video/x-raw"),
        *('location="a ! filesink"', "{password}"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "true",
            "0",
            "-1",
            "1",
            "1e3",
            "nonsense",
            "/dev/video0",
            "rtsp://h/1",
            "file:///x",
            "tcp",
            "99999999999",
        ]
    ),
    st.text(max_size=8),
)


@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=12).map(" ".join)))
def test_nothing_but_what_is_known_or_an_error(text):
    try:
        elements = parse_pipeline(text)
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    assert elements[0].name in SOURCES
    for number, element in enumerate(elements):
        if element.name == "capsfilter":
            assert number
            continue
        table = FILTERS if number else SOURCES
        assert set(element.properties) <= table[element.name]


PATHS = st.text(min_size=1, max_size=60).filter(
    lambda text: text.isprintable() and "://" not in text and "{" not in text
)


@given(PATHS)
def test_a_quoted_path_comes_out_as_it_went_in(path):
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    (element,) = parse_pipeline(f'filesrc location="{quoted}"')
    assert element.properties == {"location": path}


GOOD = {
    "location": st.sampled_from(["/x.mp4", "rtsp://h/1", "http://h/1"]),
    "uri": st.sampled_from(["file:///x.mp4", "rtsp://h/1", "https://h/1"]),
    "device": st.just("/dev/video0"),
}
OFTEN = ("videoconvert", "videoscale", "videorate", "queue", "identity", "decodebin", "videoflip")


@st.composite
def pipelines(draw):
    """Texts whose elements and properties are all known, whatever their values, and now and then caps."""

    def element(table, often):
        name = draw(st.sampled_from([*often * 3, *sorted(table)]))
        some = st.lists(st.sampled_from(sorted(table[name])), max_size=2) if table[name] else st.just([])
        keys = {*draw(some), *(table[name] & set(GOOD))}
        values = {key: draw(st.one_of(GOOD.get(key, VALUES), VALUES)) for key in sorted(keys)}
        words = (f'{key}="{value}"' for key, value in values.items() if not {"\\", '"'} & set(value))
        return " ".join([name, *words])

    caps = st.sampled_from(["video/x-raw", "video/x-raw,format=NONE", "video/x-h264", "image/jpeg,width=-1"])
    sources = ("videotestsrc", "filesrc", "rtspsrc", "uridecodebin", "souphttpsrc", "udpsrc")
    rest = (
        element(FILTERS, OFTEN) if draw(st.integers(0, 3)) else draw(caps)
        for _ in range(draw(st.integers(0, 3)))
    )
    return " ! ".join([element(SOURCES, sources), *rest])


@settings(max_examples=150, deadline=None)
@given(pipelines())
def test_only_what_is_in_the_tables_is_ever_made(text):
    """With real GStreamer, not started."""
    require_gstreamer()
    gst = load_gst()
    try:
        elements = parse_pipeline(text)
        line = build_line(gst, elements, live=True, paced=False, defaults={})
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    known = {*SOURCES, *FILTERS, "capsfilter", "videoconvert", "appsink"}
    made = line.pipeline.iterate_elements()
    names = set()
    while True:
        result, element = made.next()
        if result != gst.core.IteratorResult.OK:
            break
        names.add(element.get_factory().get_name())
    assert names <= known
    assert {"videoconvert", "capsfilter", "appsink"} <= names


@pytest.mark.parametrize("word", ["s3cret", "s3cret!x", "a:s3cret"])
@given(
    st.lists(
        st.sampled_from(
            [
                "rtspsrc",
                "souphttpsrc",
                "uridecodebin",
                "!",
                "location=",
                "uri=",
                "user-pw=",
                "rtsp://u:",
                "@h/1",
                " ",
            ]
        )
    )
)
def test_a_password_in_a_wrong_place_is_not_repeated(word, around):
    """In any text that begins with what it may: the password stands after the colon of an address, or as user-pw's value."""
    for text in (
        "".join([*around, f" rtspsrc location=rtsp://u:{word}@h/1"]),
        f"rtspsrc location=rtsp://h/ user-pw={word} " + "".join(around),
        f"souphttpsrc location=http://u:{word}@h/ " + "".join(around),
    ):
        with pytest.raises(EdgeError) as caught:
            parse_pipeline(text)
        assert "s3cret" not in str(caught.value)
