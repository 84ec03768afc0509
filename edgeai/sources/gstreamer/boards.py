"""The pipelines that a board's own hardware wants, chosen by its profile, and those that a user writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

from edgeai.errors import SourceError, SourceFormatError
from edgeai.profile import Profile
from edgeai.sources.addresses import Address
from edgeai.sources.gstreamer.bindings import load_gst
from edgeai.sources.gstreamer.elements import package_of
from edgeai.sources.gstreamer.parse import Element, parse_pipeline
from edgeai.sources.gstreamer.source import ElementError, GstCamera
from edgeai.sources.request import CameraRequest
from edgeai.sources.rtsp import RtspCamera
from edgeai.sources.rtsp_describe import greet
from edgeai.sources.source import Source
from edgeai.sources.wire import Wire
from edgeai.types import Frame

log = logging.getLogger("edgeai")

# what brings pictures out of the memory of the hardware that filled it, by the element that does
_TO_MEMORY: Final[Mapping[str, tuple[Element, ...]]] = {
    "nvv4l2decoder": (Element("nvvidconv"), Element("capsfilter", {"caps": "video/x-raw,format=BGRx"})),
    "nvarguscamerasrc": (Element("nvvidconv"), Element("capsfilter", {"caps": "video/x-raw,format=BGRx"})),
}
_MAX_SAID: Final = 100
_LEAST_S: Final = 1.0


def open_pipeline(address: Address, request: CameraRequest) -> Source[Frame]:
    """The pipeline that a gst: address spells out. Raises SourceFormatError."""
    return GstCamera(parse_pipeline(address.where), request)


def open_csi(address: Address, request: CameraRequest) -> Source[Frame]:
    """The camera at a board's CSI connector of that number. Raises SourceFormatError, SourceError where the board has none."""
    return GstCamera(csi_pipeline(address, request), request)


def csi_pipeline(address: Address, request: CameraRequest) -> tuple[Element, ...]:
    """As open_csi, the elements alone; they begin with what the profile's csi_source names."""
    number = address.where or "0"
    if not (number.isascii() and number.isdecimal()) or len(number) > 2:
        raise SourceFormatError(f"csi:{number!r} is no connector", next_step="write csi:0 for the first")
    fact = request.profile.csi_source if request.profile is not None else None
    if fact is None:
        raise SourceError(
            f"{_device(request.profile)} has no CSI camera that is known here",
            next_step="use usb: for a USB camera, or gst: with a pipeline of your own",
        )
    capture = request.capture
    size = f"width={capture.width or 1280},height={capture.height or 720}"
    rate = f"framerate={_fraction(capture.fps or 30.0)}"
    if fact.value == "nvarguscamerasrc":
        source = Element("nvarguscamerasrc", {"sensor-id": number})
        caps = f"video/x-raw(memory:NVMM),format=NV12,{size},{rate}"
    else:
        # libcamera names its cameras; without a name it takes the first
        if number != "0":
            raise SourceFormatError(
                "this board's cameras have names, not numbers",
                next_step='write gst:libcamerasrc camera-name="..." ! videoconvert; `cam --list` tells the names',
            )
        source = Element("libcamerasrc")
        caps = f"video/x-raw,format=NV12,{size},{rate}"
    return (source, Element("capsfilter", {"caps": caps}), *_TO_MEMORY.get(source.name, ()))


def hardware_rtsp(address: Address, request: CameraRequest) -> Source[Frame] | None:
    """An RTSP stream through the board's own decoder; None where there is none and none was demanded.

    Raises SourceError where capture.decoder is "hardware" and the profile knows no decoder, or GStreamer lacks it.
    """
    demanded = request.capture.decoder == "hardware"
    fact = request.profile.video_decoder if request.profile is not None else None
    if fact is None:
        if demanded:
            raise SourceError(
                f"{_device(request.profile)} has no hardware decoder that is known here",
                next_step='set decoder = "auto", or leave it out',
            )
        return None
    try:
        needed = rtsp_pipeline(address, request, decoder=fact.value)
        find = load_gst().core.ElementFactory.find
        lacking = [each.name for each in needed if find(each.name) is None]
        if lacking:
            raise SourceError(
                f"GStreamer has no element {lacking[0]!r} on this machine",
                next_step=f"install {package_of(lacking[0])}",
            )
    except SourceError as error:
        if demanded:
            raise
        _say_once(f"{_device(request.profile)} decodes its cameras in software: {error}")
        return None
    return HardwareRtsp(address, request, decoder=fact.value)


class HardwareRtsp(Source[Frame]):
    """An RTSP stream through a board's decoder; where that cannot have it, by another codec or a decoder that is in use, as
    RtspCamera in software if capture.decoder is "auto".

    Raises SourceMissingError where the camera is away, else as GstCamera or RtspCamera do.
    """

    live = True

    def __init__(self, address: Address, request: CameraRequest, *, decoder: str) -> None:
        self._address = address
        self._request = request
        self._decoder = decoder
        self._source: Source[Frame] = self._hardware()
        self._wire: Wire | None = None
        self._cancelled = False

    @property
    def capped(self) -> int:  # type: ignore[override]
        return self._source.capped

    @property
    def bad(self) -> int:  # type: ignore[override]
        return self._source.bad

    def open(self) -> None:
        self._cancelled = False
        until_s = time.monotonic() + self._request.capture.open_s
        self._greet()
        self._source = self._hardware(self._within(until_s))
        try:
            self._open()
        except (SourceFormatError, ElementError) as error:
            # of others, as of a network, software would know no better
            unfit = isinstance(error, SourceFormatError) or error.element == self._decoder
            if not unfit or self._request.capture.decoder == "hardware" or self._cancelled:
                raise
            _say_once(f"{self._request.stream}: decoded in software: {error}")
            self._source = RtspCamera(self._address, self._within(until_s))
            self._open()

    def _open(self) -> None:
        if self._cancelled:
            raise SourceError("opening the camera was given up")
        self._source.open()

    def _hardware(self, request: CameraRequest | None = None) -> Source[Frame]:
        pipeline = rtsp_pipeline(self._address, self._request, decoder=self._decoder)
        return GstCamera(pipeline, request or self._request)

    def _within(self, until_s: float) -> CameraRequest:
        """The request, with what is left of the time."""
        capture = self._request.capture
        left_s = min(capture.open_s, max(_LEAST_S, until_s - time.monotonic()))
        return replace(self._request, capture=capture.model_copy(update={"open_s": left_s}))

    def _greet(self) -> None:
        """GStreamer has few words for a camera that is away, or is none."""

        def hold(wire: Wire) -> None:
            self._wire = wire
            if self._cancelled:
                wire.cancel()

        try:
            called, limit_s = f"the camera {self._address}", self._request.capture.open_s
            greet(self._address.where, called=called, limit_s=limit_s, wire=hold)
        finally:
            self._wire = None

    def cancel(self) -> None:
        self._cancelled = True
        if (wire := self._wire) is not None:
            wire.cancel()
        self._source.cancel()

    def close(self) -> None:
        self._source.close()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)


def rtsp_pipeline(address: Address, request: CameraRequest, *, decoder: str) -> tuple[Element, ...]:
    """The elements of an RTSP stream through `decoder`; a login's words are filled in when it is opened."""
    source = {"location": address.where, "protocols": request.capture.transport}
    if address.where.lower().startswith("rtsps:"):
        source["tls-validation-flags"] = (
            "0"  # as RtspCamera: encrypted, whoever it is. Cameras sign for themselves
        )
    return (Element("rtspsrc", source), Element("parsebin"), Element(decoder), *_TO_MEMORY.get(decoder, ()))


_said: set[str] = set()


def _say_once(text: str) -> None:
    """A camera is opened again and again."""
    if text not in _said and len(_said) < _MAX_SAID:
        _said.add(text)
        log.warning("%s", text)


def _fraction(fps: float) -> str:
    """As caps want it.

    >>> _fraction(30.0), _fraction(12.5), _fraction(29.97)
    ('30/1', '25/2', '30000/1001')
    """
    exact = Fraction(round(fps * 1001), 1001)  # as 30000/1001, which is called 29.97
    near = Fraction(fps).limit_denominator(100)
    ntsc = exact.denominator == 1001 and exact.numerator % 1000 == 0 and abs(float(exact) - fps) < 0.005
    taken = exact if ntsc else near
    return f"{taken.numerator}/{taken.denominator}"


def _device(profile: Profile | None) -> str:
    return "this computer" if profile is None else f"this device ({profile.title})"
