"""The HTTP application without a socket: what it answers, whom it lets in, and what becomes of too much."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import soundfile
from asgi_client import app_of, png_claiming, request
from blob_bundle import picture, write_blob_bundle
from tiny_bundle import keyword_input, write_keyword_bundle, write_picture_bundle

from edgeai.bundle import load_bundle
from edgeai.engines import EdgeEngine, open_engine
from edgeai.pipeline import CameraPipeline, VoicePipeline, detection_facts, heard_facts, padded
from edgeai.serve import tasks
from edgeai.serve.schema import ErrorAnswer, ModelsAnswer, PredictAnswer
from edgeai.sources.audio_file import AudioFile
from edgeai.types import Frame

BLOB = "/v1/models/blob/predict"
VOICE = "/v1/models/tiny-keyword/predict"
JPEG = {"content-type": "image/jpeg"}


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


@pytest.fixture
def classifier(tmp_path):
    """The tiny picture bundle, taken for a classifier of four labels; its engine gives a grid beside their scores."""
    bundle = write_picture_bundle(tmp_path / "tiny")
    decoder = bundle.manifest.decoder.model_copy(
        update={"name": "class", "params": {"activation": "softmax"}}
    )
    return replace(
        bundle, manifest=bundle.manifest.model_copy(update={"task": "classify", "decoder": decoder})
    )


def test_a_classifier_gets_labels_best_first(classifier, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    run = EdgeEngine.run
    monkeypatch.setattr(EdgeEngine, "run", lambda self, inputs: {"scores": run(self, inputs)["scores"]})
    with app_of(classifier) as app, open_engine(classifier) as engine:
        reply = request(
            app,
            "POST",
            "/v1/models/tiny-picture/predict",
            body=encoded(".png", image),
            headers={"content-type": "image/png"},
        )
        (scores,) = np.exp(engine.run({"image": image})["scores"])
    PredictAnswer.model_validate(reply.json())
    labels = reply.json()["labels"]
    assert [each["label"] for each in labels] == [classifier.labels[k] for k in np.argsort(-scores)]
    assert [each["score"] for each in labels] == pytest.approx(sorted(scores / scores.sum())[::-1], abs=1e-4)


def test_a_classifier_with_other_outputs_is_the_models_fault(classifier):
    with app_of(classifier) as app:
        path = "/v1/models/tiny-picture/predict"
        reply = request(app, "POST", path, body=encoded(".png"), headers={"content-type": "image/png"})
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
