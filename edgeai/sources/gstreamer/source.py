"""Frames out of a GStreamer pipeline, by its appsink."""

from __future__ import annotations

import itertools
import logging
import re
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import SourceError, SourceFormatError, SourceMissingError
from edgeai.sources.addresses import read_password
from edgeai.sources.gstreamer.bindings import Gst, load_gst
from edgeai.sources.gstreamer.elements import package_of
from edgeai.sources.gstreamer.parse import Element, file_of, is_live
from edgeai.sources.request import CameraRequest, FpsCap
from edgeai.sources.source import Source
from edgeai.types import Frame

log = logging.getLogger("edgeai")

_POLL_S: Final = 0.2  # how soon a cancel is noticed
_CLOSE_S: Final = 2.0
_URL: Final = re.compile(r"[a-z0-9+.-]+://\S*", re.IGNORECASE)


class GstCamera(Source[Frame]):
    """What the last element of a pipeline gives, as BGR. The elements are those of `parse_pipeline`, or built by us.

    A live pipeline gives the newest picture, and its end or a stall is an error; one of a file gives every picture and ends.
    Raises at opening SourceError for an element that is not installed, a file that is not there, a pipeline that does not
    start in capture.open_s; while reading SourceError for what an element reports, with its words, and for a stall.
    """

    def __init__(self, elements: Sequence[Element], request: CameraRequest) -> None:
        self.live = is_live(tuple(elements))
        self.stream = request.stream
        self._elements = tuple(elements)
        self._request = request
        self._pipeline: Any = None
        self._sink: Any = None
        self._gst: Gst | None = None
        self._cancelled = threading.Event()
        self._size = (0, 0)

    def open(self) -> None:
        self.close()
        self._cancelled.clear()
        path = file_of(self._elements[0])
        if path:
            _check_file(Path(path))
        gst = self._gst = load_gst()
        self._pipeline, self._sink = self._built(gst)
        core = gst.core
        if self._pipeline.set_state(core.State.PLAYING) == core.StateChangeReturn.FAILURE:
            refused = self._fault() or SourceError(f"the pipeline of {self.stream!r} does not start")
            self.close()
            raise refused
        deadline_s = time.monotonic() + self._request.capture.open_s
        while True:
            change, _, _ = self._pipeline.get_state(int(_POLL_S * core.SECOND))
            fault = self._fault()
            if (
                change in {core.StateChangeReturn.SUCCESS, core.StateChangeReturn.NO_PREROLL}
                and fault is None
            ):
                return
            if fault is None and time.monotonic() >= deadline_s:
                fault = SourceError(
                    f"the pipeline gave no picture within {self._request.capture.open_s:g} s",
                    next_step="is the camera connected, and does each element understand the one before?",
                )
            if fault is None and self._cancelled.is_set():
                fault = SourceError("opening it was given up")
            if fault is not None:
                self.close()
                raise fault

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        pipeline, self._pipeline, self._sink = self._pipeline, None, None
        if pipeline is None or self._gst is None:
            return
        # a driver may hang here; it is left behind then, as nothing else can be done about it
        ending = threading.Thread(
            target=pipeline.set_state, args=(self._gst.core.State.NULL,), name="pipeline end", daemon=True
        )
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive():
            log.warning("the pipeline of %s did not end within %g s", self.stream, _CLOSE_S)

    def __iter__(self) -> Iterator[Frame]:
        if self._sink is None or self._gst is None:
            raise SourceError(f"the pipeline of {self.stream!r} is not open", next_step="use `with`")
        core, sink = self._gst.core, self._sink
        cap = FpsCap(self._request.max_fps)
        began_s = newest_s = time.monotonic()
        index = -1
        while not self._cancelled.is_set():
            self._request.expect(_POLL_S)
            sample = sink.try_pull_sample(int(_POLL_S * core.SECOND))
            now_s = time.monotonic()
            if sample is None:
                fault = self._fault()
                if fault is not None:
                    raise fault
                if sink.is_eos():
                    if self.live:
                        raise SourceError("the stream has ended")
                    return
                stall_s = self._request.capture.stall_s
                if self.live and now_s - newest_s >= stall_s:
                    raise SourceError(f"no picture came for {stall_s:g} s")
                continue
            newest_s = now_s
            index += 1
            buffer = sample.get_buffer()
            time_s = now_s - began_s
            if not self.live and buffer.pts != core.CLOCK_TIME_NONE:
                time_s = buffer.pts / core.SECOND
            if not cap.takes(time_s):
                self.capped += 1
                continue
            yield Frame(self._picture(sample, buffer), index, time_s, self.stream)

    def _picture(self, sample: Any, buffer: Any) -> NDArray[np.uint8]:
        """A copy of the sample's pixels, its rows packed."""
        if self._gst is None:
            raise SourceError("the pipeline was closed")
        info = self._gst.video.VideoInfo.new_from_caps(sample.get_caps())
        meta = self._gst.video.buffer_get_video_meta(buffer)
        width, height = (info.width, info.height) if meta is None else (meta.width, meta.height)
        stride = info.stride[0] if meta is None else meta.stride[0]
        mapped, memory = buffer.map(self._gst.core.MapFlags.READ)
        if not mapped:
            raise SourceError("a picture of the pipeline cannot be read")
        try:
            flat = np.frombuffer(memory.data, np.uint8)
            if len(flat) < stride * (height - 1) + width * 3:
                raise SourceError(f"a picture of {width} x {height} has {len(flat)} bytes, it was cut short")
            rows = np.lib.stride_tricks.as_strided(flat, (height, width, 3), (stride, 3, 1), writeable=False)
            image = np.array(rows, np.uint8)
        finally:
            buffer.unmap(memory)
        if self._size not in {(0, 0), (width, height)}:
            log.info("%s: pictures are %d x %d now, were %d x %d", self.stream, width, height, *self._size)
        self._size = (width, height)
        return image

    def _fault(self) -> SourceError | None:
        """What an element has reported since it was last asked."""
        if self._pipeline is None or self._gst is None:
            return None
        message = self._pipeline.get_bus().pop_filtered(self._gst.core.MessageType.ERROR)
        if message is None:
            return None
        error, _ = message.parse_error()
        words = _URL.sub("the address", " ".join(str(error.message).split()))
        return SourceError(
            f"the pipeline's {message.src.get_name() if message.src else 'element'} says: {words}"
        )

    def _built(self, gst: Gst) -> tuple[Any, Any]:
        """The pipeline with our own end, and its appsink."""
        core = gst.core
        pipeline = core.Pipeline.new(None)
        tail = (Element("videoconvert"), Element("capsfilter", {"caps": "video/x-raw,format=BGR"}))
        made = [self._made(gst, element) for element in (*self._elements, *tail)]
        sink = _make(core, "appsink")
        # live: the newest alone is kept. A file: every picture waits to be taken, at its own time where that was asked for
        sink.set_property("max-buffers", 1 if self.live else 4)
        sink.set_property("drop", self.live)
        sink.set_property("sync", not self.live and self._request.realtime)
        made.append(sink)
        for element in made:
            pipeline.add(element)
        for before, after in itertools.pairwise(made):
            _link(core, before, after)
        return pipeline, sink

    def _made(self, gst: Gst, element: Element) -> Any:
        core = gst.core
        made = _make(core, element.name)
        if element.name == "capsfilter":
            caps = core.Caps.from_string(element.properties["caps"])
            if caps is None:
                raise SourceFormatError(f"{element.properties['caps']!r} is no description of a stream")
            made.set_property("caps", caps)
            return made
        for key, text in {**self._login(element), **element.properties}.items():
            if made.find_property(key) is None:
                raise SourceError(f"element {element.name!r} of this GStreamer has no property {key!r}")
            core.util_set_object_arg(made, key, self._filled(text))
        return made

    def _login(self, element: Element) -> dict[str, str]:
        login = self._request.login
        if login is None or element.name not in {"rtspsrc", "souphttpsrc"}:
            return {}
        return {"user-id": "{username}", "user-pw": "{password}"}

    def _filled(self, text: str) -> str:
        login = self._request.login
        if login is None or "{" not in text:
            return text
        return text.replace("{username}", login.username).replace("{password}", read_password(login))


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise SourceMissingError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise SourceFormatError("the pipeline's file has a name that no file can have") from None
    if not stat.S_ISREG(mode):
        raise SourceFormatError(f"{path} is no plain file")


def _make(core: Any, name: str) -> Any:
    element = core.ElementFactory.make(name, None)
    if element is None:
        raise SourceError(
            f"GStreamer has no element {name!r} on this machine", next_step=f"install {package_of(name)}"
        )
    return element


def _link(core: Any, before: Any, after: Any) -> None:
    """Now, or as soon as `before` knows what it gives (demuxers, streams, decoders that choose)."""
    if before.link(after):
        return
    templates = before.get_pad_template_list()
    if not any(
        template.direction == core.PadDirection.SRC and template.presence == core.PadPresence.SOMETIMES
        for template in templates
    ):
        raise SourceFormatError(
            f"{after.get_factory().get_name()} does not take what {before.get_factory().get_name()} gives"
        )

    def on_pad(_: Any, pad: Any) -> None:
        target = after.get_static_pad("sink")
        if target is not None and not target.is_linked():
            pad.link(target)  # of another kind, as sound is: refused, and nothing happens

    before.connect("pad-added", on_pad)
