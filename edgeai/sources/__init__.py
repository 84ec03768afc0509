"""Where pictures and sounds come from. `open_camera` says what a camera's address means."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeai.sources.addresses import Address, Kind, parse_address
from edgeai.sources.request import CameraRequest
from edgeai.sources.source import Source
from edgeai.types import Frame

__all__ = ["CAMERAS", "CameraRequest", "Source", "open_camera"]


def _open_video(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.video_file import VideoFile

    return VideoFile(
        address.where,
        stream=request.stream,
        realtime=request.realtime,
        loop=request.capture.loop,
        max_fps=request.max_fps,
        clock=request.clock,
    )


def _open_pictures(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.image_folder import ImageFolder

    return ImageFolder(address.where, stream=request.stream)


def _open_rtsp(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.rtsp import open_rtsp

    return open_rtsp(address, request)


def _open_http(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.http_camera import HttpCamera

    return HttpCamera(address, request)


def _open_usb(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.usb import UsbCamera

    return UsbCamera(address, request)


def _open_csi(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.gstreamer.boards import open_csi

    return open_csi(address, request)


def _open_gst(address: Address, request: CameraRequest) -> Source[Frame]:
    from edgeai.sources.gstreamer.boards import open_pipeline

    return open_pipeline(address, request)


# the kind of an address -> what makes its source
CAMERAS: Mapping[Kind, Callable[[Address, CameraRequest], Source[Frame]]] = {
    "video": _open_video,
    "pictures": _open_pictures,
    "rtsp": _open_rtsp,
    "http": _open_http,
    "usb": _open_usb,
    "csi": _open_csi,
    "gst": _open_gst,
}


def open_camera(
    uri: str, *, stream: str = "", realtime: bool = False, request: CameraRequest | None = None
) -> Source[Frame]:
    """The source of frames that `uri` names (`parse_address` says what it may be), not yet opened: `with` does that.

    realtime: a video plays at its own speed, no frame dropped. request: all of how to read, in the place of stream and
    realtime. Raises SourceFormatError for an address of another kind, or one that its source cannot take; opening raises
    what the source raises.
    """
    request = request or CameraRequest(stream, realtime=realtime)
    address = parse_address(uri, stream=request.stream)
    return CAMERAS[address.kind](address, request)
