"""Whatever the body is: an answer, or one line of JSON with a status that says whose fault it is."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import soundfile
from asgi_client import app_of, request
from blob_bundle import picture, write_blob_bundle
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import keyword_input, write_keyword_bundle

from edgeai.serve.schema import ErrorAnswer, PredictAnswer


def _sound(kind):
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 4000), 16000, format=kind)
    return file.getvalue()


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


GOOD = {
    "image/jpeg": [cv2.imencode(".jpg", picture(16))[1].tobytes()],
    "image/png": [cv2.imencode(".png", picture(16))[1].tobytes()],
    "audio/x": [_sound("WAV"), _sound("FLAC"), _sound("OGG"), _sound("AIFF")],
    "application/x-npy": [_npy(picture(16)), _npy(keyword_input())],
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with app_of(write_blob_bundle(folder / "blob"), write_keyword_bundle(folder / "voice")) as app:
        yield app


@st.composite
def bodies(draw):
    """A content type, and a good file of it that was cut, overwritten, or put together with noise."""
    kind = draw(st.sampled_from(sorted(GOOD)))
    data = bytearray(draw(st.sampled_from(GOOD[kind])))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, min(len(data) - 1, draw(st.sampled_from([64, 1 << 20])))))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return kind, bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(bodies(), st.sampled_from(["blob", "tiny-keyword"]))
def test_any_body_gets_an_answer_or_a_line_of_json(app, body, model):
    kind, data = body
    reply = request(app, "POST", f"/v1/models/{model}/predict", body=data, headers={"content-type": kind})
    if reply.status == 200:
        PredictAnswer.model_validate(reply.json())
    else:
        error = ErrorAnswer.model_validate(reply.json())
        assert reply.status in {400, 413, 415, 422}, error
        assert "\n" not in error.error
