"""The HTTP application without a socket: what it answers, whom it lets in, and what becomes of too much."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import soundfile
from asgi_client import png_claiming, request, send_request
from blob_bundle import picture, write_blob_bundle
from tiny_bundle import keyword_input, write_keyword_bundle, write_picture_bundle

from edgeai.bundle import load_bundle
from edgeai.engines import open_engine
from edgeai.pipeline import CameraPipeline, VoicePipeline, detection_facts, heard_facts, padded
from edgeai.serve import tasks
from edgeai.serve.app import build_app
from edgeai.serve.guard import Health
from edgeai.serve.model import ServedModel
from edgeai.serve.schema import ErrorAnswer, ModelsAnswer, PredictAnswer
from edgeai.serve.settings import ServeSettings
from edgeai.sources.audio_file import AudioFile
from edgeai.types import Frame

BLOB = "/v1/models/blob/predict"
VOICE = "/v1/models/tiny-keyword/predict"
JPEG = {"content-type": "image/jpeg"}


@contextmanager
def app_of(*bundles, health=None, **settings):
    chosen = ServeSettings(**settings)
    models = [ServedModel(bundle, chosen) for bundle in bundles]
    try:
        yield build_app(models, chosen, health or Health())
    finally:
        for model in models:
            model.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_blob_bundle(folder / "blob")
    write_keyword_bundle(folder / "voice")
    samples = np.random.default_rng(3).normal(0, 0.1, 48000)
    samples[16000:32000] *= 0.01
    for suffix, rate_hz in ((".wav", 16000), (".flac", 16000), (".ogg", 44100)):
        soundfile.write(folder / f"said{suffix}", samples, rate_hz)
    return folder


@pytest.fixture(scope="module")
def app(folder):
    with app_of(load_bundle(folder / "blob"), load_bundle(folder / "voice")) as app:
        yield app


def encoded(suffix=".jpg", image=None):
    return cv2.imencode(suffix, picture(16) if image is None else image)[1].tobytes()


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "image/jpeg"), (".png", "image/png; q=1")])
def test_a_picture_gets_what_detect_says(app, folder, suffix, kind):
    image = np.zeros((100, 50, 3), np.uint8)
    image[40:60, 10:30] = 255
    body = encoded(suffix, image)
    reply = request(app, "POST", BLOB, body=body, headers={"content-type": kind})
    answer = reply.json()
    PredictAnswer.model_validate(answer)
    frame = Frame(cv2.imdecode(np.frombuffer(body, np.uint8), 1), 0, 0.0, "x")
    with CameraPipeline(load_bundle(folder / "blob")) as pipeline:
        wanted = detection_facts(pipeline.detect(frame), ["blob"])
    assert wanted
    assert (reply.status, answer["detections"]) == (200, wanted)
    assert (answer["model"], answer["task"], answer["width"], answer["height"]) == ("blob", "detect", 50, 100)


@pytest.mark.parametrize("name", ["said.wav", "said.flac", "said.ogg"])
def test_a_clip_gets_what_listen_says_each_time(app, folder, name):
    bundle = load_bundle(folder / "voice")
    with VoicePipeline(bundle) as voice, AudioFile(folder / name, stream="x") as source:
        wanted = [
            heard_facts(keyword)
            for chunk in padded(iter(source), voice.window_s / 2)
            for keyword in voice.process(chunk)
        ]
    for _ in range(2):  # nothing is left of the clip before
        reply = request(
            app, "POST", VOICE, body=(folder / name).read_bytes(), headers={"content-type": "audio/x"}
        )
        PredictAnswer.model_validate(reply.json())
        assert reply.json()["keywords"] == wanted
    assert wanted or name == "said.ogg"


def test_a_tensor_gets_raw_outputs(app, folder):
    headers = {"content-type": "application/x-npy"}
    answer = request(app, "POST", VOICE, body=npy(keyword_input()), headers=headers).json()
    PredictAnswer.model_validate(answer)
    with open_engine(load_bundle(folder / "voice")) as engine:
        (wanted,) = engine.run({"features": keyword_input()}).values()
    (given,) = answer["outputs"].values()
    assert np.array_equal(np.float32(given["values"]).reshape(given["shape"]), wanted)
    answer = request(app, "POST", BLOB, body=npy(picture(16)), headers=headers).json()
    assert set(answer["outputs"]) == {"box", "blob"}


def test_a_classifier_gets_labels_best_first(tmp_path):
    write_picture_bundle(tmp_path / "tiny")
    bundle = load_bundle(tmp_path / "tiny")
    params = {"activation": "softmax"}
    manifest = bundle.manifest.model_copy(
        update={"task": "classify", "decoder": bundle.manifest.decoder.model_copy(update={"params": params})}
    )
    bundle = type(bundle)(bundle.folder, manifest)
    with app_of(bundle) as app, open_engine(bundle) as engine:
        path = "/v1/models/tiny-picture/predict"
        image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        reply = request(app, "POST", path, body=encoded(".png", image), headers={"content-type": "image/png"})
        outputs = engine.run({"image": image})
    if len(outputs) == 1 and next(iter(outputs.values())).size == len(bundle.labels):
        scores = [each["score"] for each in reply.json()["labels"]]
        assert reply.status == 200
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-3)
    else:
        assert (reply.status, "one finite score" in reply.json()["error"]) == (500, True)


def test_softmax_only_where_the_decoder_says_so(folder):
    bundle = load_bundle(folder / "voice")  # its decoder says softmax
    scores = tasks.one_score_a_label({"y": np.float32([[0, 1, 2]])}, bundle)
    assert scores.sum() == pytest.approx(1)
    assert scores.argmax() == 2


def test_what_there_is_to_read(app):
    models = request(app, "GET", "/v1/models").json()
    ModelsAnswer.model_validate(models)
    assert [each["name"] for each in models["models"]] == ["blob", "tiny-keyword"]
    assert request(app, "GET", "/v1/models/blob").json() == models["models"][0]
    assert models["models"][0]["content_types"] == ["image/jpeg", "image/png", "application/x-npy"]
    assert request(app, "GET", "/healthz").json() == {"status": "ready"}
    document = request(app, "GET", "/openapi.json").json()
    assert "image/jpeg" in str(document["paths"]["/v1/models/{name}/predict"]["post"]["requestBody"])
    stats = request(app, "GET", "/v1/stats").json()
    assert set(stats) == {"blob", "tiny-keyword"}


def test_the_page_loads_nothing_from_anywhere(app):
    reply = request(app, "GET", "/")
    page = reply.body.decode()
    assert "POST /v1/models/{name}/predict" in page
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!#|/openapi\.json)', page) == []
    assert "default-src 'none'" in reply.headers["content-security-policy"]


TOO_DEEP = b"\x93NUMPY\x01\x00\x76\x00" + b"[" * 117 + b"\n"
WRONG = [
    ("GET", "/nowhere", {}, b"", 404, "Not Found"),
    ("POST", "/v1/models/dog/predict", JPEG, b"x", 404, "no model 'dog'"),
    ("GET", "/v1/models/dog", {}, b"", 404, "no model 'dog'"),
    ("GET", BLOB, {}, b"", 405, "Method Not Allowed"),
    ("POST", BLOB, {}, b"x", 415, "no Content-Type"),
    ("POST", BLOB, {"content-type": "multipart/form-data"}, b"x", 415, "multipart/form-data"),
    ("POST", BLOB, {"content-type": "text/uri-list"}, b"http://127.0.0.1/x.jpg", 415, "text/uri-list"),
    ("POST", BLOB, {"content-type": "audio/wav"}, b"RIFF", 415, "the request says 'audio/wav'"),
    ("POST", BLOB, JPEG, b"", 400, "no body"),
    ("POST", BLOB, JPEG, encoded(".png"), 415, "the body is no image/jpeg"),
    ("POST", BLOB, JPEG, encoded()[:-20], 422, "cut"),
    ("POST", BLOB, JPEG, encoded()[:30], 422, "no frame header"),
    ("POST", BLOB, JPEG, b"\xff\xd8\xff" + bytes(100), 422, "no frame header"),
    ("POST", BLOB, {"content-type": "image/png"}, encoded(".png")[:-20], 422, "cut"),
    ("POST", BLOB, {"content-type": "image/png"}, png_claiming(100_000, 100_000), 413, "pixels"),
    ("POST", BLOB, {"content-type": "image/png"}, png_claiming(0, 8), 422, "no pixels"),
    (
        "POST",
        BLOB,
        {"content-type": "image/png"},
        png_claiming(4000, 4000),
        422,
        "cannot be read|not a picture",
    ),
    ("POST", VOICE, {"content-type": "audio/wav"}, b"hello", 415, "no sound file"),
    ("POST", VOICE, {"content-type": "audio/wav"}, b"RIFF" + bytes(60), 422, "not a sound file"),
    ("POST", BLOB, {"content-type": "application/x-npy"}, b"x", 422, "no .npy"),
    ("POST", BLOB, {"content-type": "application/x-npy"}, TOO_DEEP, 422, "no .npy"),
    (
        "POST",
        BLOB,
        {"content-type": "application/x-npy"},
        npy(np.array([{}]), allow_pickle=True),
        422,
        "object",
    ),
    ("POST", BLOB, {"content-type": "application/x-npy"}, npy(np.zeros((4, 4, 3), np.uint8)), 422, "must be"),
    ("POST", BLOB, {"content-type": "application/x-npy"}, npy(picture(1))[:-1], 422, "cut"),
    (
        "POST",
        VOICE,
        {"content-type": "application/x-npy"},
        npy(np.full((1, 10, 8, 1), np.nan, np.float32)),
        422,
        "NaN",
    ),
]


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "says"), WRONG)
def test_what_is_wrong_is_one_line_of_json(app, method, path, headers, body, status, says):
    reply = request(app, method, path, body=body, headers=headers)
    error = ErrorAnswer.model_validate(reply.json()).error
    assert reply.status == status, error
    assert re.search(says, error)
    assert "\n" not in error
    assert "/proc/" not in error


def test_a_body_is_counted_while_it_comes(folder):
    with app_of(load_bundle(folder / "blob"), max_bytes=1024, body_s=0.01) as app:
        said = {**JPEG, "content-length": "1025"}
        assert request(app, "POST", BLOB, body=b"", headers=said).status == 413
        assert request(app, "POST", BLOB, headers={**JPEG, "content-length": "9" * 5000}).status == 413
        assert request(app, "POST", BLOB, headers={**JPEG, "content-length": "-1"}).status == 413
        lies = {**JPEG, "content-length": "5"}
        assert request(app, "POST", BLOB, body=[b"x" * 1000] * 2, headers=lies).status == 413
        assert request(app, "POST", BLOB, body=b"x", headers=JPEG, unfinished=True).status == 408
        parts = [encoded()[:100], encoded()[100:]]
        assert request(app, "POST", BLOB, body=parts, headers=JPEG).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "evil.example:8080"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "[::1"}, 421),
        ({"host": ""}, 421),
        ({"host": "user@evil.example"}, 421),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_pages_of_others_cannot_use_a_local_server(app, headers, status):
    assert request(app, "GET", "/v1/models", headers=headers).status == status
    assert "access-control-allow-origin" not in request(app, "GET", "/v1/models", headers=headers).headers


def test_a_token_is_asked_for_everywhere_but_health(folder):
    token = "correct-horse-battery"
    with app_of(load_bundle(folder / "blob"), host="0.0.0.0", token=token) as app:
        anywhere = {"host": "camera.example"}
        assert request(app, "GET", "/healthz", headers=anywhere).status == 200
        for path in ("/", "/v1/models", "/openapi.json", "/v1/stats", "/nowhere", "//healthz", "/healthz/"):
            reply = request(app, "GET", path, headers=anywhere)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer"), path
        for wrong in ("Bearer wrong", f"bearer{token}", token, f"Bearer {token} ", "Bearer \xff"):
            assert (
                request(app, "GET", "/v1/models", headers={**anywhere, "authorization": wrong}).status == 401
            )
        good = {**anywhere, "authorization": f"Bearer {token}"}
        assert request(app, "GET", "/v1/models", headers=good).status == 200


class GateTask(tasks.Task):
    """Says "done" once its gate is open."""

    kinds = ("image/jpeg",)

    def __init__(self, bundle, settings):
        self.bundle, self.engines, self.file = bundle, ["engine"] * settings.workers, None
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.ran = []

    def read(self, body, kind):
        def run(engine, ticket):
            self.entered.release()
            self.gate.wait()
            self.ran.append(body)
            return lambda: {"labels": []}

        return run

    def close(self):
        self.gate.set()


@pytest.fixture
def gated(folder, monkeypatch):
    """(app, task, health) of settings: an engine that waits for its gate."""
    monkeypatch.setitem(tasks.TASKS, "detect", GateTask)
    opened = []

    @contextmanager
    def gated(**options):
        settings = ServeSettings(**options)
        model = ServedModel(load_bundle(folder / "blob"), settings)
        opened.append(model)
        health = Health()
        try:
            yield build_app([model], settings, health), model._task, health
        finally:
            model._task.gate.set()
            model.close()

    return gated


async def in_engine(task):
    await asyncio.to_thread(task.entered.acquire)


def test_a_full_queue_says_when_to_come_again(gated):
    async def flood(app, task):
        waiting = [
            asyncio.create_task(send_request(app, "POST", BLOB, body=b"%d" % n, headers=JPEG))
            for n in range(5)
        ]
        await in_engine(task)
        refused = await send_request(app, "POST", BLOB, body=b"late", headers=JPEG)
        task.gate.set()
        return refused, await asyncio.gather(*waiting)

    with gated(queue=3) as (app, task, _):
        refused, answered = asyncio.run(flood(app, task))
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "3 requests waiting" in refused.json()["error"]
        assert [reply.status for reply in answered] == [200] * 5
        assert request(app, "GET", "/v1/stats").json()["blob"]["requests"] == {"200": 5, "429": 1}
        assert request(app, "POST", BLOB, body=b"again", headers=JPEG).status == 200


def test_whoever_went_away_does_not_reach_the_engine(gated):
    async def leave(app, task):
        first = asyncio.create_task(send_request(app, "POST", BLOB, body=b"first", headers=JPEG))
        await in_engine(task)
        gone = asyncio.Event()
        second = asyncio.create_task(
            send_request(app, "POST", BLOB, body=b"second", headers=JPEG, leave=gone)
        )
        third = asyncio.create_task(send_request(app, "POST", BLOB, body=b"third", headers=JPEG))
        await asyncio.sleep(0)
        gone.set()
        await second
        task.gate.set()
        return [(await first).status, (await third).status]

    with gated() as (app, task, _):
        assert asyncio.run(leave(app, task)) == [200, 200]
        assert task.ran == [b"first", b"third"]
        assert request(app, "GET", "/v1/stats").json()["blob"]["requests"] == {"200": 2, "499": 1}


def test_an_answer_that_comes_too_late_is_a_504(gated):
    with gated(deadline_s=0.01) as (app, _, _):
        reply = request(app, "POST", BLOB, body=b"x", headers=JPEG)
        assert (reply.status, "within 0.01 s" in reply.json()["error"]) == (504, True)


def test_a_stopping_server_takes_nothing_new(gated):
    with gated() as (app, task, health):
        health.stopping = True
        assert request(app, "GET", "/healthz").status == 503
        assert request(app, "POST", BLOB, body=b"x", headers=JPEG).status == 503
        assert task.ran == []


def test_two_workers_run_two_requests_at_once(gated):
    async def both(app, task):
        sent = [
            asyncio.create_task(send_request(app, "POST", BLOB, body=b"x", headers=JPEG)) for _ in range(2)
        ]
        await in_engine(task)
        await in_engine(task)
        task.gate.set()
        return [(await each).status for each in sent]

    with gated(workers=2) as (app, task, _):
        assert asyncio.run(both(app, task)) == [200, 200]


def test_a_fault_of_the_program_is_told_in_one_line(folder, monkeypatch, caplog):
    class Broken(GateTask):
        def read(self, body, kind):
            raise ZeroDivisionError("secret path /etc")

    monkeypatch.setitem(tasks.TASKS, "detect", Broken)
    with app_of(load_bundle(folder / "blob")) as app:
        reply = request(app, "POST", BLOB, body=b"x", headers=JPEG)
        assert reply.status == 500
        assert reply.json()["error"] == "a fault of this program, ZeroDivisionError"
        assert "secret path /etc" in caplog.text
        assert "Traceback" not in caplog.text
        assert request(app, "GET", "/healthz").status == 200
