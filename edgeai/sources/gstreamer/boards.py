"""The pipelines that a board's own hardware wants, chosen by its profile, and those that a user writes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from edgeai.errors import SourceError, SourceFormatError
from edgeai.profile import Profile
from edgeai.sources.addresses import Address
from edgeai.sources.gstreamer.bindings import load_gst
from edgeai.sources.gstreamer.parse import Element, parse_pipeline
from edgeai.sources.gstreamer.source import GstCamera
from edgeai.sources.request import CameraRequest
from edgeai.sources.source import Source
from edgeai.types import Frame

log = logging.getLogger("edgeai")

# what brings a decoder's or camera's pictures out of the memory of its hardware, by the element that fills it
_TO_MEMORY: Final[Mapping[str, tuple[Element, ...]]] = {
    "nvv4l2decoder": (Element("nvvidconv"), Element("capsfilter", {"caps": "video/x-raw,format=BGRx"})),
    "nvarguscamerasrc": (Element("nvvidconv"), Element("capsfilter", {"caps": "video/x-raw,format=BGRx"})),
}
# how much a network may jitter: more is only later
_LATENCY_MS: Final = "100"


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
        core = load_gst().core
        if core.ElementFactory.find(fact.value) is None:
            raise SourceError(f"GStreamer has no element {fact.value!r} on this machine")
    except SourceError as error:
        if demanded:
            raise
        log.warning("%s: decoded in software: %s", request.stream, error)
        return None
    return GstCamera(rtsp_pipeline(address, request, decoder=fact.value), request)


def rtsp_pipeline(address: Address, request: CameraRequest, *, decoder: str) -> tuple[Element, ...]:
    """The elements of an RTSP stream through `decoder`; a login's words are filled in when it is opened."""
    source = Element(
        "rtspsrc",
        {
            "location": address.where,
            "protocols": request.capture.transport,
            "latency": _LATENCY_MS,
            "drop-on-latency": "true",
            "tcp-timeout": str(round(request.capture.stall_s * 1e6)),
        },
    )
    return (source, Element("parsebin"), Element(decoder), *_TO_MEMORY.get(decoder, ()))


def _fraction(fps: float) -> str:
    """As caps want it.

    >>> _fraction(30.0), _fraction(12.5)
    ('30/1', '25/2')
    """
    numerator, denominator = (
        fps.as_integer_ratio() if fps * 2 == round(fps * 2) else (round(fps * 1000), 1000)
    )
    return f"{numerator}/{denominator}"


def _device(profile: Profile | None) -> str:
    return "this computer" if profile is None else f"this device ({profile.title})"
