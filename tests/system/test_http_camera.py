"""HTTP cameras over real sockets: good ones, odd ones, broken ones and hostile ones."""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
import threading
import time

import cv2
import numpy as np
import pytest
from certificates import Authority
from http_camera_server import HttpCameraServer, digest_is_right

from edgeai.errors import EdgeError, SourceError, SourceFormatError, SourceMissingError
from edgeai.sources import CameraRequest, open_camera
from edgeai.sources.settings import CaptureSettings, LoginSettings

pytestmark = pytest.mark.system

PASSWORD = "p@ss:w/rd?&é"


def jpeg(shade: int, width: int = 64, height: int = 48) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), shade, np.uint8))[1].tobytes()


def part(body: bytes, mark: bytes = b"--frame") -> bytes:
    return mark + b"\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body)


def head(
    kind: str = "multipart/x-mixed-replace; boundary=frame", status: str = "200 OK", extra: str = ""
) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}\r\n".encode()


def hold(end) -> None:
    """Keep the connection, silent, until the other side ends it."""
    with contextlib.suppress(OSError):
        while end.recv(4096):
            pass


def camera(url: str, *, login: LoginSettings | None = None, max_fps: float | None = None, **capture):
    settings = CaptureSettings(**{"stall_s": 0.6, "open_s": 1.5} | capture)
    return open_camera(url, request=CameraRequest("gate", max_fps=max_fps, capture=settings, login=login))


def stream_of(*bodies: bytes, then=hold):
    def play(end, _head):
        end.sendall(head())
        for body in bodies:
            end.sendall(part(body))
        then(end)

    return play


def fault(url: str, **settings) -> EdgeError:
    """The one error that opening and reading ends with."""
    began_s = time.monotonic()
    with pytest.raises(EdgeError) as caught, camera(url, **settings) as source:
        for _ in source:
            pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began_s < 30
    return caught.value


def test_a_stream_gives_its_pictures_as_they_come():
    with (
        HttpCameraServer(stream_of(*(jpeg(shade) for shade in (20, 120, 220)))) as server,
        camera(server.url) as source,
    ):
        assert source.live
        frames = list(itertools.islice(source, 3))
    assert [round(float(frame.image.mean()), -1) for frame in frames] == [20, 120, 220]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert all(frame.image.shape == (48, 64, 3) and frame.stream == "gate" for frame in frames)
    assert all(after.time_s >= before.time_s for before, after in itertools.pairwise(frames))


def test_another_size_under_way_is_a_picture_of_that_size():
    with HttpCameraServer(stream_of(jpeg(9), jpeg(9, 32, 16))) as server, camera(server.url) as source:
        assert [frame.image.shape for frame in itertools.islice(source, 2)] == [(48, 64, 3), (16, 32, 3)]


def test_a_chunked_stream():
    def play(end, _head):
        end.sendall(head(extra="Transfer-Encoding: chunked\r\n"))
        data = part(jpeg(50)) + part(jpeg(90))
        for begin in range(0, len(data), 100):
            piece = data[begin : begin + 100]
            end.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        hold(end)

    with HttpCameraServer(play) as server, camera(server.url) as source:
        assert [round(float(frame.image.mean()), -1) for frame in itertools.islice(source, 2)] == [50, 90]


def test_a_cap_leaves_frames_out_undecoded():
    with (
        HttpCameraServer(stream_of(jpeg(9), *[b"\xff\xd8broken\xff\xd9"] * 50)) as server,
        camera(server.url, max_fps=0.01) as source,
        pytest.raises(SourceError, match=r"no picture for 0\.6 s"),
    ):
        list(source)
    assert (source.capped, source.bad) == (50, 0)


def test_damaged_pictures_are_left_out_and_counted():
    whole = jpeg(70)
    with (
        HttpCameraServer(
            stream_of(whole, whole[: len(whole) // 2], b"no jpeg", b"\xff\xd8\xff\xd9", whole)
        ) as server,
        camera(server.url) as source,
    ):
        assert [frame.index for frame in itertools.islice(source, 2)] == [0, 4]
        assert source.bad == 3


def test_damage_without_end_is_a_fault():
    with HttpCameraServer(stream_of(*[b"no jpeg"] * 100)) as server:
        assert "in a row are damaged" in str(fault(server.url))


def test_a_jpeg_is_fetched_again_and_again():
    shades = itertools.count(1)

    def play(end, _head):
        body = jpeg(10 * next(shades))
        end.sendall(head("image/jpeg", extra=f"Content-Length: {len(body)}\r\n") + body)

    with HttpCameraServer(play) as server, camera(server.url, max_fps=20) as source:
        frames = list(itertools.islice(source, 4))
    assert [round(float(frame.image.mean()), -1) for frame in frames] == [10, 20, 30, 40]
    assert all(after.time_s - before.time_s > 0.03 for before, after in itertools.pairwise(frames))
    assert source.capped == 0


def test_a_jpeg_without_a_length_ends_with_the_connection():
    def play(end, _head):
        end.sendall(head("image/jpeg") + jpeg(80))

    with HttpCameraServer(play) as server, camera(server.url, max_fps=50) as source:
        assert len(list(itertools.islice(source, 2))) == 2


def digest_play(end, request):
    if digest_is_right(request, "gate keeper", PASSWORD, "abc"):
        end.sendall(head())
        end.sendall(part(jpeg(33)))
        hold(end)
    else:
        asked = 'WWW-Authenticate: Basic realm="camera"\r\nWWW-Authenticate: Digest realm="camera", qop="auth", nonce="abc"\r\n'
        end.sendall(head("text/html", "401 Unauthorized", asked + "Content-Length: 0\r\n"))


def test_digest_with_the_right_password_from_a_file(tmp_path):
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    login = LoginSettings(username="gate keeper", password_file=tmp_path / "secret")
    with HttpCameraServer(digest_play) as server, camera(server.url + "?channel=1", login=login) as source:
        assert next(iter(source)).index == 0
    assert b"Basic" not in b"".join(server.requests)  # the password itself was never sent


def test_basic_with_the_right_password(monkeypatch):
    monkeypatch.setenv("GATE_PASSWORD", "open sesame")

    def play(end, request):
        if b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" in request:
            stream_of(jpeg(33))(end, request)
        else:
            end.sendall(head("text/html", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n'))

    login = LoginSettings(username="Aladdin", password_env="GATE_PASSWORD")
    with HttpCameraServer(play) as server, camera(server.url, login=login) as source:
        assert next(iter(source)).index == 0
    assert b"Authorization" not in server.requests[0]


def test_a_refused_user_is_told_without_secrets(monkeypatch):
    monkeypatch.setenv("GATE_PASSWORD", "hunter2")
    login = LoginSettings(username="gate keeper", password_env="GATE_PASSWORD")
    with HttpCameraServer(digest_play) as server:
        error = fault(server.url + "?token=hunter3", login=login)
        assert "refused (401)" in str(error)
        assert not any(secret in str(error) for secret in ("hunter", "gate keeper", "token"))
        assert "[cameras.login]" in str(fault(server.url))


def test_a_password_in_the_query(monkeypatch):
    monkeypatch.setenv("GATE_PASSWORD", PASSWORD)
    login = LoginSettings(username="me", password_env="GATE_PASSWORD")
    with (
        HttpCameraServer(stream_of(jpeg(9))) as server,
        camera(server.url + "?u={username}&p={password}", login=login) as source,
    ):
        next(iter(source))
    assert b"GET /video?u=me&p=p%40ss%3Aw%2Frd%3F%26%C3%A9 HTTP" in server.requests[0]


def redirecting(location: str):
    def play(end, request):
        if b"GET /moved" in request:
            stream_of(jpeg(9))(end, request)
        else:
            end.sendall(head("text/html", "302 Found", f"Location: {location}\r\nContent-Length: 0\r\n"))

    return play


def test_a_redirection_on_the_same_host_is_followed():
    with HttpCameraServer(redirecting("/moved")) as server, camera(server.url) as source:
        assert next(iter(source)).index == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2/x",
        "http://user:pw@127.0.0.1/x",
        "//evil/x",
        "http://[bad",
        "",
        "/again",
        "file:///etc/passwd",
    ],
)
def test_other_redirections_are_not(location):
    with HttpCameraServer(redirecting(location)) as server:
        assert isinstance(fault(server.url), SourceError)
        assert len(server.requests) <= 4


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (head("text/html"), SourceFormatError, "text/html"),
        (b"HTTP/1.1 200 OK\r\n\r\n", SourceFormatError, "nothing"),
        (head(status="404 Not Found"), SourceMissingError, "404"),
        (head(status="403 Forbidden"), SourceError, "403"),
        (head(status="503 Busy"), SourceError, "503"),
        (b"RTSP/1.0 400 Bad Request\r\n\r\n", SourceFormatError, "does not speak HTTP"),
        (b"\x16\x03\x01\x02\x00", SourceFormatError, "does not speak HTTP"),
        (b"", SourceMissingError, "without an answer"),
        (head() + part(b"\xff\xd8"), SourceError, "ended its stream"),
    ],
)
def test_wrong_answers_are_told_apart(answer, kind, said):
    def play(end, _head):
        end.sendall(answer)

    with HttpCameraServer(play) as server:
        error = fault(server.url)
    assert type(error) is kind
    assert said in str(error)


def test_nobody_there():
    with HttpCameraServer(stream_of()) as server:
        url = server.url
    error = fault(url)
    assert type(error) is SourceMissingError
    assert "refused the connection" in str(error)
    assert "not known" in str(fault("http://camera.invalid/x"))


def endless(piece: bytes, start: bytes = b""):
    def play(end, _head):
        end.sendall(start)
        for _ in range(20_000):
            end.sendall(piece * 100)

    return play


def slowly(data: bytes, start: bytes = b""):
    def play(end, _head):
        end.sendall(start)
        for byte in itertools.cycle(data):
            end.sendall(bytes([byte]))
            time.sleep(0.02)

    return play


LARGE_CLAIM = jpeg(9).replace(b"\x00\x30\x00\x40", b"\xff\xff\xff\xff", 1)  # 65535 x 65535 in its header
HOSTILE = {
    "never answers": lambda end, _head: hold(end),
    "endless headers": endless(b"X-A: b\r\n", b"HTTP/1.1 200 OK\r\n"),
    "one endless header": endless(b"a" * 100, b"HTTP/1.1 200 OK\r\nX-A: "),
    "endless continues": endless(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte now and then in the head": slowly(b"x", b"HTTP/1.1 200 OK\r\nX-A: "),
    "a byte now and then in a part": slowly(b"x", head() + b"--frame\r\nContent-Length: 5000\r\n\r\n"),
    "a byte now and then in no part": slowly(b"x", head()),
    "an endless part": endless(bytes(1000), head() + b"--frame\r\n\r\n"),
    "a part of terabytes": lambda end, _: (end.sendall(head() + b"--frame\r\nContent-Length: 9999999999999\r\n\r\n"), hold(end)),
    "endless headers of a part": endless(b"X-A: b\r\n", head() + b"--frame\r\n"),
    "an endless picture": endless(bytes(1000), head("image/jpeg")),
    "a picture of terabytes": lambda end, _: (end.sendall(head("image/jpeg", extra="Content-Length: 9999999999999\r\n")), hold(end)),
    "a negative length": lambda end, _: end.sendall(head("image/jpeg", extra="Content-Length: -5\r\n") + jpeg(9)[:50]),
    "bad chunks": lambda end, _: end.sendall(head(extra="Transfer-Encoding: chunked\r\n") + b"zz\r\nabc"),
    "an endless chunk size": endless(b"0" * 100, head(extra="Transfer-Encoding: chunked\r\n")),
    "huge pictures": stream_of(*[LARGE_CLAIM] * 40),
    "random bytes": lambda end, _: end.sendall(head() + np.random.default_rng(0).bytes(300_000)),
    "a silent stream": stream_of(jpeg(9)),
    "401 for ever": lambda end, _: end.sendall(
        head("text/html", "401 No", 'WWW-Authenticate: Digest realm="x", nonce="n"\r\n')
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cameras_end_in_an_edge_error_soon(name, monkeypatch):
    monkeypatch.setenv("GATE_PASSWORD", "x")
    login = LoginSettings(username="me", password_env="GATE_PASSWORD")
    with HttpCameraServer(HOSTILE[name]) as server:
        assert isinstance(fault(server.url, login=login, max_fps=1000), SourceError)


@pytest.mark.parametrize("when", ["opening", "reading", "between pictures"])
def test_cancel_ends_a_wait_at_once(when):
    def snapshot(end, _head):
        end.sendall(head("image/jpeg") + jpeg(9))

    plays = {"opening": lambda end, _: hold(end), "reading": stream_of(jpeg(9)), "between pictures": snapshot}
    with HttpCameraServer(plays[when]) as server:
        source = camera(
            server.url, stall_s=60, open_s=60, max_fps=0.02 if when == "between pictures" else None
        )
        read = threading.Event()

        def work():
            with contextlib.suppress(SourceError), source:
                for _ in source:
                    read.set()

        thread = threading.Thread(target=work)
        thread.start()
        if when == "opening":
            deadline_s = time.monotonic() + 20
            while not server.requests and time.monotonic() < deadline_s:
                time.sleep(0.01)
        else:
            assert read.wait(20)
        source.cancel()
        thread.join(20)
        assert not thread.is_alive()


def test_a_certificate_is_verified(tmp_path, monkeypatch):
    authority = Authority(tmp_path, "authority")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.sign("camera", names="IP:127.0.0.1"), tmp_path / "camera.key")
    with HttpCameraServer(stream_of(jpeg(9)), tls=tls) as server:
        assert "certificate is not trusted" in str(fault(server.url))
        monkeypatch.setenv("SSL_CERT_FILE", os.fspath(authority.pem))
        with camera(server.url) as source:
            assert next(iter(source)).index == 0


def test_opening_again_after_a_fault():
    with HttpCameraServer(stream_of(jpeg(9), then=lambda _: None)) as server:
        source = camera(server.url)
        for _ in range(3):
            with pytest.raises(SourceError, match="ended its stream"), source:
                list(source)
        source.close()
        with pytest.raises(SourceError, match="not open"):
            next(iter(source))
