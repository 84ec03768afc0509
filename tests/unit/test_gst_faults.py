"""A camera's pipeline whose driver hangs, or says what nobody may hear: by a stand-in for GStreamer."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import parse_address
from edgeai.sources.gstreamer import boards
from edgeai.sources.gstreamer import source as module
from edgeai.sources.gstreamer.bindings import Gst
from edgeai.sources.gstreamer.build import Line
from edgeai.sources.gstreamer.parse import parse_pipeline
from edgeai.sources.gstreamer.source import ElementError, GstCamera
from edgeai.sources.request import CameraRequest
from edgeai.sources.settings import CaptureSettings, LoginSettings
from edgeai.sources.source import Source
from edgeai.types import Frame

CORE = SimpleNamespace(
    State=SimpleNamespace(PLAYING="playing", NULL="null"),
    StateChangeReturn=SimpleNamespace(FAILURE="failure"),
    MessageType=SimpleNamespace(ERROR="error", ELEMENT="element"),
    SECOND=1_000_000_000,
    CLOCK_TIME_NONE=2**64 - 1,
)


class FakeLine:
    """A pipeline, its bus and its appsink in one."""

    def __init__(self, messages=(), *, hangs=None):
        self.messages = list(messages)
        self.states = []
        self._hangs = hangs

    def set_state(self, state):
        if state == "null" and self._hangs is not None:
            self._hangs.wait(60)
        self.states.append(state)
        return "async"

    def get_bus(self):
        return self

    def pop(self):
        return self.messages.pop(0) if self.messages else None

    def try_pull_sample(self, _limit_ns):
        time.sleep(0.01)

    def is_eos(self):
        return False


def said(text, debug="", *, domain="gst-stream-error-quark", code=1, element="rtspsrc"):
    factory = SimpleNamespace(get_name=lambda: element)
    return SimpleNamespace(
        type="error",
        src=SimpleNamespace(get_factory=lambda: factory),
        parse_error=lambda: (SimpleNamespace(message=text, domain=domain, code=code), debug),
    )


def missing(what):
    structure = SimpleNamespace(get_name=lambda: "missing-plugin", get_string=lambda _key: what)
    return SimpleNamespace(type="element", get_structure=lambda: structure)


@pytest.fixture
def camera(monkeypatch):
    """Makes a GstCamera that plays a FakeLine."""

    def make(line, **fields):
        monkeypatch.setattr(module, "load_gst", lambda: Gst(CORE, None))
        monkeypatch.setattr(module, "build_line", lambda *_, **__: Line(line, line))
        return GstCamera(
            parse_pipeline("rtspsrc location=rtsp://h/1 ! decodebin"), CameraRequest("s", **fields)
        )

    return make


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        (said("No\nway."), SourceError, "the pipeline's rtspsrc says: No way."),
        (
            said("Could not open.", "gst.c(1): f (): /x:\nFailed to connect."),
            SourceError,
            "says: Could not open. Failed to connect.",
        ),
        (
            said("At rtsp://u:s3cret@h/1?t=s3cret it is", "x\ns3cret pass: http://h/s3cret"),
            SourceError,
            "says: At the address it is ... pass: the address",
        ),
        (
            said("No.", domain="gst-resource-error-quark", code=3),
            SourceMissingError,
            "says: No.",
        ),
        (
            said("No.", domain="gst-resource-error-quark", code=15),
            SourceError,
            r"says: No.; look at \[cameras.login\]",
        ),
        (said("x" * 5000), SourceError, "x{250}"),
    ],
)
def test_what_an_element_reports_becomes_one_line_without_secrets(camera, message, kind, says, monkeypatch):
    monkeypatch.setenv("CAMERA_WORD", "s3cret")
    source = camera(FakeLine([message]), login=LoginSettings(username="u", password_env="CAMERA_WORD"))
    with pytest.raises(kind, match=says) as caught:
        source.open()
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_missing_decoder_is_named(camera):
    messages = [
        missing("H.266 decoder"),
        missing("H.266 decoder"),
        said("Your installation is missing a plug-in."),
    ]
    with pytest.raises(SourceError, match=r"for: H\.266 decoder; install gstreamer1\.0-libav"):
        camera(FakeLine(messages)).open()


def test_a_driver_that_hangs_at_the_end_does_not_hang_who_closes(camera, monkeypatch, caplog):
    monkeypatch.setattr(module, "_CLOSE_S", 0.2)
    free = threading.Event()
    line = FakeLine(hangs=free)
    source = camera(line, capture=CaptureSettings(open_s=0.2))
    with pytest.raises(SourceError, match=r"no picture within 0\.2 s"):
        source.open()
    assert "did not end within 0.2 s" in caplog.text
    assert line.states == ["playing"]
    free.set()


def test_a_fault_at_opening_leaves_nothing_open(camera):
    line = FakeLine([said("No.")])
    source = camera(line)
    for _ in range(2):
        with pytest.raises(SourceError):
            source.open()
        assert line.states.pop() == "null"
        line.messages = [said("No.")]
    source.close()
    assert line.states == ["playing", "playing"]


class FakeCamera(Source[Frame]):
    """Opens, or raises; as hardware or as software."""

    live = True
    fault: SourceError | None = None
    opened: ClassVar[list[float]] = []

    def __init__(self, _what, request):
        self.request = request

    def open(self):
        self.opened.append(self.request.capture.open_s)
        if self.fault is not None:
            raise self.fault

    def __iter__(self):
        yield Frame(np.zeros((1, 1, 3), np.uint8), 0, 0.0, self.request.stream)


class FakeSoftware(FakeCamera):
    pass


@pytest.mark.parametrize(
    ("fault", "decoder", "software"),
    [
        (None, "auto", False),
        (ElementError("in use", element="v4l2h264dec"), "auto", True),
        (SourceFormatError("another codec"), "auto", True),
        (ElementError("in use", element="v4l2h264dec"), "hardware", None),
        (SourceFormatError("another codec"), "hardware", None),
        (ElementError("cut off", element="rtspsrc"), "auto", None),
        (SourceError("no picture"), "auto", None),
    ],
    ids=range(7),
)
def test_software_takes_over_from_a_decoder_where_it_can_help(fault, decoder, software, monkeypatch):
    monkeypatch.setattr(boards, "GstCamera", type("FakeHardware", (FakeCamera,), {"fault": fault}))
    monkeypatch.setattr(boards, "RtspCamera", FakeSoftware)
    monkeypatch.setattr(boards, "greet", lambda *_, **__: None)
    monkeypatch.setattr(FakeCamera, "opened", opened := [])
    request = CameraRequest("s", capture=CaptureSettings(decoder=decoder, open_s=5))
    source = boards.HardwareRtsp(parse_address("rtsp://h/1"), request, decoder="v4l2h264dec")
    if software is None:
        with pytest.raises(SourceError) as caught:
            source.open()
        assert caught.value is fault
        return
    for _ in range(2):  # each time the decoder first: it may be free again
        opened.clear()
        with source:
            assert next(iter(source)).stream == "s"
        assert len(opened) == 1 + software
        assert max(opened) <= 5.0
    assert source.capped == source.bad == 0
