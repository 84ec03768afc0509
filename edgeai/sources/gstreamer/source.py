"""Frames out of a GStreamer pipeline, by its appsink."""

from __future__ import annotations

import logging
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import Address, read_password, with_login
from edgeai.sources.gstreamer.bindings import Gst, load_gst
from edgeai.sources.gstreamer.build import Line, build_line
from edgeai.sources.gstreamer.elements import SECRETS
from edgeai.sources.gstreamer.parse import Element, file_of, is_live, needs_login
from edgeai.sources.request import CameraRequest, FpsCap
from edgeai.sources.source import Source
from edgeai.types import Frame

log = logging.getLogger("edgeai")

_POLL_S: Final = 0.2  # how soon a cancel is noticed
_CLOSE_S: Final = 2.0
_MISFIT_S: Final = 1.0  # how long a stream that fits may still come after one that does not
_LATENCY_MS: Final = "100"  # for packets that a network turns round; more is only later
_MAX_PIXELS: Final = 1 << 26
_MAX_WORDS: Final = 300
_URL: Final = re.compile(r"[a-z0-9+.-]+://\S*", re.IGNORECASE)
# GstResourceError
_RESOURCE: Final = "gst-resource-error-quark"
_NOT_FOUND, _NOT_AUTHORIZED = 3, 15


class ElementError(SourceError):
    """What an element of a pipeline has reported. element: its kind, as in pipelines."""

    def __init__(self, message: str, *, element: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.element = element


class GstCamera(Source[Frame]):
    """What the last element of a pipeline gives, as BGR. The elements are those of `parse_pipeline`, or built by us.

    A live pipeline gives the newest picture, and its end or a stall is an error; one of a file gives every picture and ends.
    Opening waits for the first picture. time_s of a file's pictures is the file's own.

    Raises at opening SourceMissingError for a file or device that is not there, SourceFormatError for what does not fit or
    has no pictures, ElementError for what an element reports, SourceError for an element that is not installed and where no
    picture came within capture.open_s; while reading ElementError, and SourceError for a stall: capture.stall_s of a live
    pipeline, capture.open_s of a file.
    """

    def __init__(self, elements: Sequence[Element], request: CameraRequest) -> None:
        """Raises SourceFormatError where a {username} or {password} is to be filled in and there is no login."""
        self.live = is_live(tuple(elements))
        self.capped = self.bad = 0
        self._elements = tuple(elements)
        self._request = request
        self._gst: Gst | None = None
        self._line: Line | None = None
        self._first: Any = None
        self._missing: list[str] = []  # codecs that GStreamer has nothing for
        self._cancelled = threading.Event()
        self._opened_s = 0.0
        self._size = (0, 0)
        self._channels = 3
        self._caps: Any = None
        self._password = ""
        if request.login is None and needs_login(self._elements):
            raise SourceFormatError(
                "the pipeline has a {username} or {password}, and its camera no login",
                next_step="write [cameras.login]: username, and password_file or password_env",
            )

    def open(self) -> None:
        self.close()
        deadline_s = time.monotonic() + self._request.capture.open_s
        self._cancelled.clear()
        self._missing.clear()
        path = file_of(self._elements[0])
        if path:
            _check_file(Path(path))
        self._gst = load_gst()
        try:
            self._line = line = self._built(self._gst)
            refused = self._gst.core.StateChangeReturn.FAILURE
            if line.pipeline.set_state(self._gst.core.State.PLAYING) == refused:
                raise self._fault(line) or SourceError("the pipeline does not start")
            self._first = self._first_sample(self._gst, line, deadline_s)
        except BaseException:
            self.close()
            raise
        self._opened_s = self._request.clock.monotonic_s()

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        line, self._line, self._first, self._caps = self._line, None, None, None
        if line is None or self._gst is None:
            return
        # a driver may hang here; it is left behind then, as nothing else can be done about it
        ending = threading.Thread(
            target=line.pipeline.set_state,
            args=(self._gst.core.State.NULL,),
            name="pipeline end",
            daemon=True,
        )
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive():
            log.warning("the pipeline of %s did not end within %g s", self._request.stream, _CLOSE_S)

    def __iter__(self) -> Iterator[Frame]:
        line, gst = self._line, self._gst
        if line is None or gst is None:
            raise SourceError("the pipeline is not open", next_step="use `with`, or call open() first")
        settings, cap = self._request.capture, FpsCap(self._request.max_fps)
        stall_s = settings.stall_s if self.live else settings.open_s
        paced = self._request.realtime and not self.live  # a file's own gaps may be long
        heard_s, index, last_s = time.monotonic(), -1, -1.0
        while not self._cancelled.is_set():
            self._request.expect(_POLL_S)
            sample, self._first = self._first, None
            if sample is None:
                sample = self._pulled(gst, line)
            if self._line is not line:
                return
            fault = self._fault(line)
            if fault is not None:
                raise fault
            now_s = time.monotonic()
            if sample is None:
                if line.sink.is_eos():
                    if self.live:
                        raise SourceError("the stream has ended")
                    return
                if now_s - heard_s >= stall_s and not paced:
                    raise SourceError(f"no picture came for {stall_s:g} s")
                continue
            heard_s, index = now_s, index + 1
            last_s = time_s = self._time_s(gst, sample, last_s)
            if not cap.takes(time_s):
                self.capped += 1
                continue
            yield Frame(self._picture(gst, sample), index, time_s, self._request.stream)
            heard_s = time.monotonic()  # whoever took the picture may have been slow

    def _first_sample(self, gst: Gst, line: Line, deadline_s: float) -> Any:
        misfit_s = float("inf")
        while not self._cancelled.is_set():
            sample = self._pulled(gst, line)
            fault = self._fault(line)
            if sample is not None and fault is None:
                return sample
            now_s = time.monotonic()
            if line.misfits and misfit_s > now_s + _MISFIT_S:
                misfit_s = now_s + _MISFIT_S
            ended = line.sink.is_eos()
            if line.misfits and (fault is not None or ended or now_s >= misfit_s):
                raise line.misfits[0]
            if fault is not None:
                raise fault
            if ended:
                raise SourceFormatError("the pipeline ended without a picture")
            if now_s >= deadline_s:
                raise SourceError(
                    f"the pipeline gave no picture within {self._request.capture.open_s:g} s",
                    next_step="is the camera connected, and does each element understand the one before?",
                )
        raise SourceError("opening the pipeline was given up")

    def _pulled(self, gst: Gst, line: Line) -> Any:
        return line.sink.try_pull_sample(int(_POLL_S * gst.core.SECOND))

    def _time_s(self, gst: Gst, sample: Any, last_s: float) -> float:
        if self.live:
            return self._request.clock.monotonic_s() - self._opened_s
        core, stamp = gst.core, sample.get_buffer().pts
        if stamp != core.CLOCK_TIME_NONE:
            stamp = sample.get_segment().to_stream_time(core.Format.TIME, stamp)
        time_s = stamp / core.SECOND if stamp != core.CLOCK_TIME_NONE else -1.0
        if time_s > last_s:
            return float(time_s)
        # a file without timestamps
        known, numerator, denominator = sample.get_caps().get_structure(0).get_fraction("framerate")
        return max(last_s, 0.0) + (denominator / numerator if known and numerator else 1 / 25) * (last_s >= 0)

    def _picture(self, gst: Gst, sample: Any) -> NDArray[np.uint8]:
        """A copy of the sample's pixels as BGR, its rows packed."""
        import cv2

        buffer, caps = sample.get_buffer(), sample.get_caps()
        if self._caps is None or not caps.is_equal(self._caps):
            self._caps = caps
            self._resized(caps.get_structure(0))
        (width, height), channels = self._size, self._channels
        row_bytes = width * channels
        meta = gst.video.buffer_get_video_meta(buffer)
        # where a buffer does not say it, GStreamer's rows begin at multiples of 4 bytes
        start, stride = (0, (row_bytes + 3) // 4 * 4) if meta is None else (meta.offset[0], meta.stride[0])
        mapped, memory = buffer.map(gst.core.MapFlags.READ)
        if not mapped:
            raise SourceError("a picture of the pipeline cannot be read")
        try:
            flat = np.frombuffer(memory.data, np.uint8, offset=start)
            if stride < row_bytes or len(flat) < stride * (height - 1) + row_bytes:
                raise SourceError(
                    f"a picture of {width} x {height} came as {len(flat)} bytes, it was cut short"
                )
            shape, strides = (height, width, channels), (stride, channels, 1)
            rows = np.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)
            return (
                np.array(rows)
                if channels == 3
                else np.asarray(cv2.cvtColor(rows, cv2.COLOR_BGRA2BGR), np.uint8)
            )
        finally:
            buffer.unmap(memory)

    def _resized(self, structure: Any) -> None:
        before, self._size = self._size, (structure.get_int("width")[1], structure.get_int("height")[1])
        width, height = self._size
        self._channels = 3 if structure.get_string("format") == "BGR" else 4
        if not 0 < width * height <= _MAX_PIXELS:
            raise SourceFormatError(f"the pipeline's pictures are {width} x {height}, which is not taken")
        if before not in {(0, 0), self._size}:
            log.info("%s: pictures are %d x %d now, were %d x %d", self._request.stream, *self._size, *before)

    def _fault(self, line: Line) -> SourceError | None:
        """What an element has reported since it was last asked. Each message is taken: they would pile up."""
        if self._gst is None:
            return None
        kinds, bus = self._gst.core.MessageType, line.pipeline.get_bus()
        while (message := bus.pop()) is not None:
            if message.type == kinds.ELEMENT:
                structure = message.get_structure()
                if structure is not None and structure.get_name() == "missing-plugin":
                    self._missing.append(structure.get_string("name") or "something")
            elif message.type == kinds.ERROR:
                return self._said(message)
        return None

    def _said(self, message: Any) -> SourceError:
        error, debug = message.parse_error()
        if self._missing:
            return SourceError(
                f"GStreamer has nothing on this machine for: {', '.join(dict.fromkeys(self._missing))}",
                next_step="install gstreamer1.0-libav gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly",
            )
        # after the place in GStreamer's own source the reason, where one is given
        said = f"{error.message} {(debug or '').partition(chr(10))[2]}"
        words = _URL.sub("the address", " ".join(said.split()))
        if self._password:
            words = words.replace(self._password, "...")
        factory = getattr(message.src, "get_factory", lambda: None)()
        element = str(factory.get_name()) if factory else "bin"
        told = f"the pipeline's {element} says: {words[:_MAX_WORDS]}"
        if error.domain == _RESOURCE and error.code == _NOT_AUTHORIZED:
            return ElementError(told, element=element, next_step="look at [cameras.login]")
        if error.domain == _RESOURCE and error.code == _NOT_FOUND:
            return SourceMissingError(told)
        return ElementError(told, element=element)

    def _built(self, gst: Gst) -> Line:
        settings, login = self._request.capture, self._request.login
        self._password = "" if login is None else read_password(login)
        source: dict[str, str] = {}
        if login is not None and not needs_login(self._elements):
            source = {"user-id": login.username, "user-pw": self._password}
        defaults: Mapping[str, Mapping[str, str]] = {
            "rtspsrc": {
                "protocols": settings.transport,
                "latency": _LATENCY_MS,
                "drop-on-latency": "true",  # a device too slow for its camera must not fall behind
                "tcp-timeout": str(round(settings.stall_s * 1e6)),
                **source,
            },
            "souphttpsrc": {"is-live": "true", "timeout": str(max(1, round(settings.stall_s))), **source},
        }
        elements = [self._filled(element) for element in self._elements]
        return build_line(
            gst,
            elements,
            live=self.live,
            paced=self._request.realtime,
            defaults=defaults if self.live else {},
        )

    def _filled(self, element: Element) -> Element:
        """With the login's words in the place of {username} and {password}."""
        login = self._request.login
        if login is None or not needs_login((element,)):
            return element
        words = {"{username}": login.username, "{password}": self._password}
        filled = {
            key: words.get(text, text) if key in SECRETS else with_login(Address("rtsp", text), login)
            for key, text in element.properties.items()
            if key in SECRETS or needs_login((Element(element.name, {key: text}),))
        }
        return Element(element.name, {**element.properties, **filled})


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceMissingError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise SourceFormatError("the pipeline's file has a name that no file can have") from None
    if not stat.S_ISREG(mode):
        raise SourceFormatError(f"{path} is no plain file")
