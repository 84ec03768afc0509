"""What answers at an RTSP address need not be a camera: only EdgeErrors leave, and soon."""

from __future__ import annotations

import contextlib
import itertools
import time

import numpy as np
import pytest
from http_camera_server import HttpCameraServer

from edgeai.errors import EdgeError, SourceError
from edgeai.sources.addresses import parse_address
from edgeai.sources.request import CameraRequest
from edgeai.sources.rtsp import RtspCamera
from edgeai.sources.rtsp_describe import Description, describe, greet
from edgeai.sources.settings import CaptureSettings

pytestmark = pytest.mark.system

SDP = (
    "v=0\r\nm=audio 0 RTP/AVP 0\r\na=fmtp:0 sprop-x=no\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LA,aM4=;profile-level-id=42\r\n"
)


def answer(status: str = "200 OK", body: str = SDP, extra: str = "") -> bytes:
    return f"RTSP/1.0 {status}\r\nCSeq: 1\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def serving(data: bytes, *, hold: bool = False):
    def play(end, _head):
        end.sendall(data)
        while hold and end.recv(4096):
            pass

    return play


def asked(play, ask=describe):
    with HttpCameraServer(play) as server:
        url = server.url.replace("http", "rtsp")
        return ask(url, called="the camera", limit_s=1.5)


def test_a_description():
    assert asked(serving(answer())) == Description("H264", (("sprop-parameter-sets", "Z0LA,aM4="),))


def test_a_description_of_little():
    assert asked(serving(answer(body="v=0\r\nm=video 0 RTP/AVP 26\r\n"))) == Description()


@pytest.mark.parametrize("status", ["400 Bad Request", "405 No", "453 Full", "500 Oops", "503 Busy"])
def test_answers_of_its_own_are_left_to_the_player(status):
    assert asked(serving(answer(status, ""))) == Description(status=int(status[:3]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (answer(body="v=0\r\nm=audio 0 RTP/AVP 0\r\n"), "offers no video"),
        (answer(body=""), "offers no video"),
        (answer("401 Unauthorized", ""), "asks for a user"),
        (answer("403 Forbidden", ""), "(403)"),
        (answer("404 Not Found", ""), "no such stream"),
        (answer("302 Found", "", "Location: rtsp://user:secret@evil/\r\n"), "sends elsewhere (302)"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no RTSP server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no RTSP server"),
        (b"\x00" * 100, "no RTSP server"),
        (b"", "ended the connection"),
        (answer()[:-20], "ended the connection"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 999999\r\n\r\n", "longer than any camera's"),
        (b"RTSP/1.0 200 OK\r\n" + b"X: y\r\n" * 200, "longer than any camera's"),
        (b"RTSP/1.0 200 OK\r\nX: " + b"y" * 20_000, "longer than any camera's"),
    ],
)
def test_what_it_says_otherwise(data, said):
    with pytest.raises(SourceError) as caught:
        asked(serving(data))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("ask", [greet, describe])
@pytest.mark.parametrize("start", [b"", b"RTSP/1.0 200 OK\r\nX: "], ids=["nothing", "half a head"])
@pytest.mark.parametrize("slow", [False, True], ids=["silent", "a byte now and then"])
def test_silence_ends(ask, start, slow):
    def play(end, _head):
        end.sendall(start)
        for byte in itertools.cycle(b"R"):
            time.sleep(0.05)
            if slow:
                end.sendall(bytes([byte]))

    began_s = time.monotonic()
    with pytest.raises(SourceError, match=r"does not answer|no RTSP server"):
        asked(play, ask)
    assert time.monotonic() - began_s < 20


def test_random_answers():
    rng = np.random.default_rng(3)
    whole = answer()
    for _ in range(60):
        broken = bytearray(whole)
        for place in rng.integers(0, len(broken), 6):
            broken[place] = rng.integers(0, 256)
        with contextlib.suppress(EdgeError):
            asked(serving(bytes(broken)))


@pytest.mark.parametrize("seed", range(3))
def test_ffmpeg_behind_it_is_bound_too(seed):
    """A server that greets like a camera and then plays rubbish."""
    rng = np.random.default_rng(seed)

    def play(end, head):
        if b"DESCRIBE" not in head:
            end.sendall(answer("200 OK", "", "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n"))
            end.recv(4096)
        end.sendall(answer(extra="Content-Type: application/sdp\r\n"))
        end.recv(4096)
        end.sendall(answer("200 OK", "", "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"))
        end.recv(4096)
        end.sendall(answer("200 OK", "", "Session: 1\r\n"))
        for _ in range(2000):
            payload = rng.bytes(int(rng.integers(1, 1400)))
            end.sendall(b"$\x00" + len(payload).to_bytes(2, "big") + b"\x80\x60" + payload[2:])

    with HttpCameraServer(play) as server:
        request = CameraRequest("s", capture=CaptureSettings(stall_s=1, open_s=2))
        began_s = time.monotonic()
        with (
            pytest.raises(SourceError),
            RtspCamera(parse_address(server.url.replace("http", "rtsp")), request) as source,
        ):
            for _ in source:
                pass
        assert time.monotonic() - began_s < 40
