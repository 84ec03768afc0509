"""Streams cut anywhere are the whole stream; whatever else comes raises an EdgeError or nothing."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeai.errors import EdgeError, SourceFormatError
from edgeai.sources.authorization import Authorization
from edgeai.sources.jpeg_header import jpeg_size
from edgeai.sources.multipart import MultipartReader
from edgeai.sources.pictures import MAX_SIDE_PX, as_bgr

_BODY = st.binary(min_size=1, max_size=200).filter(lambda body: b"frame" not in body)


@given(
    st.lists(_BODY, max_size=6),
    st.lists(st.integers(1, 60), max_size=40),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from(["frame", "--frame"]),
)
def test_any_chunking_is_the_whole_stream(bodies, steps, line, boundary):
    end = line.encode()
    stream = b""
    for body in bodies:
        stream += b"--frame" + end + f"Content-Length: {len(body)}".encode() + end + end + body + end
    reader, found, at = MultipartReader(boundary), [], 0
    for step in [*steps, len(stream)]:
        found += reader.feed(stream[at : at + step])
        at += step
    assert found == bodies


_PIECES = st.sampled_from(
    [
        b"--frame",
        b"frame",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"--",
        b"Content-Length: 3",
        b"Content-Length: 9999999999",
        b"\xff\xd8",
        b"x",
    ]
)


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=40)), max_size=60), st.sampled_from(["frame", "", "-"]))
def test_rubbish_raises_edge_errors_only(pieces, boundary):
    reader = MultipartReader(boundary, max_part_bytes=256)
    with contextlib.suppress(EdgeError):
        for piece in pieces:
            for body in reader.feed(piece):
                assert len(body) <= 256 + 40


@given(st.binary(max_size=200), st.booleans())
def test_a_jpeg_header_is_a_size_or_an_edge_error(data, jpeg):
    with contextlib.suppress(SourceFormatError):
        width, height = jpeg_size(b"\xff\xd8\xff" * jpeg + data)
        assert 0 < width < 65536
        assert 0 < height < 65536


@given(st.lists(st.text(max_size=60).map(lambda text: f"Digest {text}"), max_size=3), st.text(max_size=20))
def test_no_challenge_breaks_the_answer(asked, password):
    user = Authorization("user", password)
    if user.challenge(asked):
        assert "\n" not in user.header("GET", "/")


_SHAPES = st.one_of(
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    st.sampled_from([(MAX_SIDE_PX + 1, 1), (1, MAX_SIDE_PX + 1, 3), (0, 0, 3), (0, 5), (2, 3, 4), (2, 3, 1)]),
)
_TYPES = st.sampled_from(
    [np.uint8, np.uint16, np.int16, np.float32, np.float64, np.bool_, np.complex64, object]
)


@given(_SHAPES, _TYPES, st.booleans(), st.booleans())
def test_a_picture_is_bgr_or_an_edge_error(shape, kind, flipped, fortran):
    image = np.ones(shape, kind, order="F" if fortran else "C")
    if flipped and image.ndim:
        image = image[::-1]
    try:
        picture = as_bgr(image)
    except SourceFormatError as error:
        assert "\n" not in str(error)
        return
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert picture.shape == (*shape[:2], 3)
    assert all(0 < side <= MAX_SIDE_PX for side in picture.shape)


@given(st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers())))
def test_what_is_no_array_is_no_picture(thing):
    with contextlib.suppress(SourceFormatError):
        as_bgr(thing)
        raise AssertionError("taken")
