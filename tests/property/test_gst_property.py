"""Whatever the text of a pipeline, only what is in the tables comes out of it, or one clear error."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeai.errors import EdgeError
from edgeai.sources.gstreamer.elements import FILTERS, SOURCES
from edgeai.sources.gstreamer.parse import parse_pipeline

WORDS = st.sampled_from(
    [
        *(
            "videotestsrc",
            "filesrc",
            "queue",
            "filesink",
            "t.",
            "(",
            ")",
            "!",
            "! !",
            "location=/x",
            "name=a",
        ),
        *(
            "is-live=true",
            "video/x-raw,width=1",
            "video/x-raw(memory:NVMM)",
            '"',
            "\\",
            "=",
            "=x",
            "x=",
            "%s",
        ),
        *(
            "rtspsrc",
            "location=rtsp://u:p@h",
            'location="a ! filesink"',
            "caps=video/x-raw",
            "\n",
            "\0",
            "{password}",
        ),
    ]
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


@given(st.text(max_size=60).filter(lambda text: text.isprintable() and "://" not in text))
def test_a_quoted_path_comes_out_as_it_went_in(path):
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    (element,) = parse_pipeline(f'filesrc location="{quoted}"')
    assert element.properties == {"location": path}
