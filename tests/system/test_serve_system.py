"""`edgeai serve` as its users start it: a process, real HTTP, zoo models, real pictures and sound, and clients that mean harm."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from asgi_client import png_claiming
from blob_bundle import picture, write_blob_bundle

pytestmark = pytest.mark.system

PERSON = "/v1/models/person-detector/predict"
COMMANDS = "/v1/models/commands/predict"
CLIP = "speech_commands/clips/left/03401e93_nohash_0.flac"
JPEG = {"Content-Type": "image/jpeg"}


def edgeai(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edgeai", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


class Server:
    def __init__(self, process, ready):
        self.process = process
        self.url = urlsplit(ready["url"])
        self.ready = ready

    def connect(self):
        return http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, JSON)."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, json.loads(response.read())
        finally:
            connection.close()

    def raw(self, data):
        """All that comes back on a connection of its own, until the server closes it."""
        with socket.create_connection((self.url.hostname, self.url.port), timeout=60) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def serving(*arguments):
    command = [sys.executable, "-m", "edgeai", "serve", *map(str, arguments), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        try:
            assert line, process.stderr.read()
            yield Server(process, json.loads(line))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors
    assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def zoo():
    with serving("person-detector", "commands") as server:
        yield server


@pytest.fixture
def blob(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    return tmp_path / "blob"


def jpeg():
    return cv2.imencode(".jpg", picture(16))[1].tobytes()


@pytest.mark.data
def test_pictures_get_what_detect_prints(zoo, shared_data):
    seen = 0
    for path in sorted((shared_data / "coco_people" / "images").glob("*.jpg"))[:3]:
        printed = json.loads(edgeai("detect", str(path), "--json").stdout)["detections"]
        status, headers, answer = zoo.ask("POST", PERSON, path.read_bytes(), JPEG)
        assert (status, answer["detections"]) == (200, printed)
        assert "server" not in headers
        seen += len(printed)
    assert seen


@pytest.mark.data
def test_clips_get_what_listen_prints(zoo, shared_data):
    path = shared_data / CLIP
    printed = [json.loads(line) for line in edgeai("listen", str(path), "--json").stdout.splitlines()]
    status, _, answer = zoo.ask("POST", COMMANDS, path.read_bytes(), {"Content-Type": "audio/flac"})
    assert printed
    assert (status, answer["keywords"]) == (200, printed)


@pytest.mark.data
def test_pictures_that_run_together_get_what_each_would(shared_data):
    paths = sorted((shared_data / "coco_people" / "images").glob("*.jpg"))[:6]
    with serving("person-detector", "--engine", "onnx/float16", "--batch", "4") as server:

        def ask(path):
            return server.ask("POST", PERSON, path.read_bytes(), JPEG)[2]["detections"]

        alone = [ask(path) for path in paths]
        with ThreadPoolExecutor(len(paths)) as pool:
            assert list(pool.map(ask, paths)) == alone
    assert any(alone)


def chunked(*parts):
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n%s" % (
        PERSON.encode(),
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + coded,
    )


HEAD = b"POST " + PERSON.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
HOSTILE = {
    "no HTTP": (b"\x16\x03\x01\x02\x00" + bytes(200) + b"\r\n\r\n", 400),
    "another host": (b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
    "no host": (b"GET / HTTP/1.0\r\n\r\n", 421),
    "a length that is none": (HEAD + b"Content-Type: image/jpeg\r\nContent-Length: -5\r\n\r\n", 400),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    "a length beyond all": (
        HEAD + b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (1 << 40),
        413,
    ),
    "a head without end": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000, 400),
    "a broken chunk": (chunked(b"abc") + b"zz\r\n", 400),
    "chunks beyond the limit": (chunked(*[b"\xff\xd8\xff" + bytes(1 << 20)] * 9), 413),
    "an upgrade": (
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nUpgrade: x\r\nConnection: close\r\n\r\n",
        200,
    ),
    "a PNG that claims gigabytes": (
        HEAD
        + b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(png_claiming(90_000, 90_000))
        + png_claiming(90_000, 90_000),
        413,
    ),
    "a path out of the table": (HEAD.replace(b"person-detector", b"..%2f..%2fetc") + b"\r\n", 404),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_requests_get_json_and_the_server_goes_on(zoo, what):
    data, status = HOSTILE[what]
    try:
        reply = zoo.raw(data)
    except ConnectionError:  # it said no and closed while this was still being sent
        reply = b""
    if reply:
        head, _, body = reply.partition(b"\r\n\r\n")
        assert int(head.split()[1]) == status, reply[:300]
        assert b"application/json" in head
        assert ("error" in json.loads(body)) == (status >= 400)
    else:
        assert status in {400, 413}, what
    assert zoo.ask("GET", "/healthz")[2] == {"status": "ready"}


def test_half_a_body_keeps_nobody_else_waiting(zoo):
    with socket.create_connection((zoo.url.hostname, zoo.url.port)) as slow:
        slow.sendall(HEAD + b"Content-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\nhalf")
        image = cv2.imencode(".jpg", np.zeros((288, 384, 3), np.uint8))[1].tobytes()
        assert zoo.ask("POST", PERSON, image, JPEG)[0] == 200
    assert zoo.ask("GET", "/healthz")[0] == 200


def test_a_flood_gets_answers_and_429(blob):
    with serving(blob, "--queue", "1") as server:
        statuses, start = [], threading.Barrier(12)

        def flood():
            connection = server.connect()
            start.wait()
            for _ in range(30):
                connection.request("POST", "/v1/models/blob/predict", jpeg(), JPEG)
                response = connection.getresponse()
                body = json.loads(response.read())
                statuses.append((response.status, "error" in body, response.headers.get("Retry-After")))
            connection.close()

        threads = [threading.Thread(target=flood) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {(200, False, None), (429, True, "1")}
        counts = server.ask("GET", "/v1/stats")[2]["blob"]["requests"]
        assert sum(counts.values()) == len(statuses) == 360
        assert server.ask("POST", "/v1/models/blob/predict", jpeg(), JPEG)[0] == 200


def test_what_was_taken_is_answered_after_sigterm(blob):
    with serving(blob) as server:
        body = jpeg()
        connection = socket.create_connection((server.url.hostname, server.url.port), timeout=60)
        head = b"POST /v1/models/blob/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        with connection:
            connection.sendall(head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # the request is taken
            server.process.send_signal(signal.SIGTERM)
            while True:  # no longer listening: the server is stopping
                try:
                    socket.create_connection((server.url.hostname, server.url.port), timeout=60).close()
                except OSError:
                    break
            connection.sendall(body)
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0


def test_a_token_beyond_loopback(blob, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    done = edgeai("serve", str(blob), "--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "add --token-file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with serving(blob, "--host", "0.0.0.0", "--token-file", token) as server:
        assert server.ready["token"]
        assert server.ask("GET", "/healthz")[0] == 200
        assert server.ask("GET", "/v1/models")[0] == 401
        assert server.ask("GET", "/v1/models", headers={"Authorization": "Bearer 0123456789abcdef"})[0] == 200


def test_wrong_arguments_are_one_line(blob):
    for arguments, says in (
        (("nowhere",), "no bundle 'nowhere'"),
        ((str(blob), str(blob)), "same name"),
        ((str(blob), "--token-file", "/nowhere"), "token file"),
        ((str(blob), "--engine", "onnx"), "no engine file 'onnx'"),
    ):
        done = edgeai("serve", *arguments, "--port", "0")
        assert done.returncode != 0
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_without_the_extra_it_says_what_to_install(blob):
    script = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "sys.argv = ['edgeai', 'serve', sys.argv[1]]\n"
        "from edgeai.cli import main\nsys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(blob)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'edgeai[serve]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_bench_tells_what_http_costs(shared_data):
    command = [
        sys.executable,
        "-m",
        "bench.bench_serve",
        "--data",
        shared_data,
        "--rounds",
        "1",
        "--seconds",
        "1",
    ]
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join((str(root), str(root / "tests")))
    done = subprocess.run(
        [*map(str, command), "--without-wrk", "--json"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    names = [row["name"] for row in json.loads(done.stdout)["results"]]
    assert names == ["bare_per_s", "wrapped_per_s", "served_per_s", "ratio", "ratio_of_wrapped"]
