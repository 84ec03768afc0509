"""Streams of pictures as cameras write them."""

from __future__ import annotations

import pytest

from edgeai.errors import SourceError
from edgeai.sources.jpeg_header import jpeg_size
from edgeai.sources.multipart import MultipartReader

BODIES = [
    b"\xff\xd8one\xff\xd9",
    b"\xff\xd8\r\n--two\n--\xff\xd9",
    b"\xff\xd8" + bytes(range(256)) * 9 + b"\xff\xd9",
]


def written(bodies, *, mark="--frame", line="\r\n", length=True, extra="") -> bytes:
    stream = b""
    for body in bodies:
        head = f"{mark}{line}Content-Type: image/jpeg{line}"
        if length:
            head += f"Content-Length: {len(body)}{line}"
        stream += f"{head}{extra}{line}".encode() + body + line.encode()
    return stream


STREAMS = {
    "plain": ("frame", written(BODIES)),
    "dashes in the boundary": ("--frame", written(BODIES)),
    "dashes in neither": ("frame", written(BODIES, mark="frame")),
    "more dashes": ("frame", written(BODIES, mark="----frame")),
    "quoted": ('"frame"', written(BODIES)),
    "no boundary named": ("", written(BODIES)),
    "a line before the first": ("frame", b"\r\n" + written(BODIES)),
    "text before the first": ("frame", b"This is a stream.\r\n" + written(BODIES)),
    "no length": ("frame", written(BODIES, length=False)),
    "LF": ("frame", written(BODIES, line="\n")),
    "LF without length": ("frame", written(BODIES, line="\n", length=False)),
    "no line after the body": ("frame", written(BODIES).replace(b"\xff\xd9\r\n--frame", b"\xff\xd9--frame")),
    "other headers": ("frame", written(BODIES, extra="X-Timestamp: 12.5\r\nContent-Disposition: inline\r\n")),
    "no header at all": ("frame", b"".join(b"--frame\r\n\r\n" + body + b"\r\n" for body in BODIES)),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_every_way_of_writing_gives_the_same_bodies(name, step):
    boundary, stream = STREAMS[name]
    stream += b"--frame--\r\n" if "neither" not in name else b"frame--\r\n"
    reader, found = MultipartReader(boundary), []
    for begin in range(0, len(stream), step):
        found += reader.feed(stream[begin : begin + step])
    assert found == BODIES
    assert reader.ended


def test_a_body_is_given_as_soon_as_its_length_is_there():
    stream = written(BODIES[:1])
    assert MultipartReader("frame").feed(stream) == BODIES[:1]


def test_a_wrong_length_spoils_its_neighbour_and_nothing_else():
    stream = written(BODIES[:1]).replace(b"Content-Length: 7", b"Content-Length: 9") + written(BODIES)
    assert MultipartReader("frame").feed(stream)[-2:] == BODIES[-2:]
    stream = written(BODIES[:1]).replace(b"Content-Length: 7", b"Content-Length: 5") + written(BODIES)
    assert MultipartReader("frame").feed(stream)[1:] == BODIES


@pytest.mark.parametrize(
    ("stream", "match"),
    [
        (b"--frame\r\nContent-Length: 99999999999\r\n\r\n", "announces"),
        (b"--frame\r\n" + b"X: " + b"y" * 20_000, "header"),
        (b"--frame\r\n\r\n" + b"z" * 5000, "over"),
        (b"--frame" + b"-" * 20_000, "header"),
        (b"a" * 20_000, "header"),
    ],
)
def test_what_no_camera_sends_is_refused(stream, match):
    boundary = "" if stream.startswith(b"a") else "frame"
    with pytest.raises(SourceError, match=match):
        MultipartReader(boundary, max_part_bytes=4096).feed(stream)


def test_rubbish_between_parts_takes_no_memory():
    reader = MultipartReader("frame")
    for _ in range(200):
        assert reader.feed(b"x" * 10_000) == []
    assert len(reader._held) < 1000
    assert reader.feed(b"\r\n" + written(BODIES)) == BODIES


def test_the_size_of_a_jpeg():
    import cv2
    import numpy as np

    for quality in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]):
        data = cv2.imencode(".jpg", np.zeros((24, 40, 3), np.uint8), quality)[1].tobytes()
        assert jpeg_size(data) == (40, 24)
