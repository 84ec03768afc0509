"""The elements that a pipeline may consist of, and the properties that may be set: all others are refused.

Nothing here writes a file, sends anything on, runs a program or loads code that the text names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NONE: Final[frozenset[str]] = frozenset()


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


SOURCES: Final[Mapping[str, frozenset[str]]] = {
    "videotestsrc": _of("is-live", "pattern", "num-buffers", "horizontal-speed"),
    "filesrc": _of("location"),
    "v4l2src": _of("device", "io-mode", "num-buffers", "do-timestamp"),
    "libcamerasrc": _of("camera-name"),
    "nvarguscamerasrc": _of(
        *("sensor-id", "sensor-mode", "wbmode", "aelock", "awblock", "exposuretimerange", "gainrange"),
        *(
            "ispdigitalgainrange",
            "exposurecompensation",
            "tnr-mode",
            "tnr-strength",
            "ee-mode",
            "ee-strength",
        ),
    ),
    "nvv4l2camerasrc": _of("device"),
    "rtspsrc": _of(
        *("location", "protocols", "latency", "drop-on-latency", "buffer-mode", "timeout", "tcp-timeout"),
        *("user-id", "user-pw", "do-rtsp-keep-alive", "udp-buffer-size"),
    ),
    "souphttpsrc": _of("location", "is-live", "timeout", "user-id", "user-pw"),
    "udpsrc": _of("port", "address", "caps", "buffer-size", "auto-multicast", "timeout"),
    "uridecodebin": _of("uri"),
}
"""What a pipeline begins with."""

FILTERS: Final[Mapping[str, frozenset[str]]] = {
    # containers, payloads and parsers
    "qtdemux": _NONE,
    "matroskademux": _NONE,
    "avidemux": _NONE,
    "tsdemux": _NONE,
    "multipartdemux": _of("boundary", "single-stream"),
    "rtpjitterbuffer": _of("latency", "drop-on-latency", "mode"),
    "rtph264depay": _NONE,
    "rtph265depay": _NONE,
    "rtpjpegdepay": _NONE,
    "rtpmp2tdepay": _NONE,
    "rtpvp8depay": _NONE,
    "rtpvp9depay": _NONE,
    "h264parse": _of("config-interval"),
    "h265parse": _of("config-interval"),
    "jpegparse": _NONE,
    "parsebin": _NONE,
    "decodebin": _NONE,
    # decoders
    "avdec_h264": _of("max-threads", "output-corrupt"),
    "avdec_h265": _of("max-threads", "output-corrupt"),
    "avdec_mjpeg": _of("max-threads"),
    "openh264dec": _NONE,
    "jpegdec": _of("idct-method"),
    "vp8dec": _of("threads"),
    "vp9dec": _of("threads"),
    "nvv4l2decoder": _of(
        "enable-max-performance", "skip-frames", "drop-frame-interval", "num-extra-surfaces"
    ),
    "nvjpegdec": _NONE,
    "v4l2h264dec": _NONE,
    "v4l2h265dec": _NONE,
    "v4l2jpegdec": _NONE,
    "v4l2slh265dec": _NONE,
    "vah264dec": _NONE,
    "vah265dec": _NONE,
    "vajpegdec": _NONE,
    # what changes pictures
    "videoconvert": _of("n-threads", "dither", "chroma-mode", "matrix-mode"),
    "videoscale": _of("method", "add-borders", "n-threads"),
    "videoconvertscale": _of("method", "add-borders", "n-threads"),
    "videorate": _of("max-rate", "drop-only", "skip-to-first"),
    "videocrop": _of("top", "bottom", "left", "right"),
    "videoflip": _of("method", "video-direction"),
    "videobalance": _of("brightness", "contrast", "hue", "saturation"),
    "deinterlace": _of("mode", "method", "fields"),
    "bayer2rgb": _NONE,
    "nvvidconv": _of(
        "flip-method",
        "interpolation-method",
        "top",
        "bottom",
        "left",
        "right",
        "compute-hw",
        "nvbuf-memory-type",
    ),
    "nvvideoconvert": _of("flip-method", "interpolation-method", "compute-hw", "nvbuf-memory-type"),
    "vapostproc": _of("video-direction"),
    "queue": _of("max-size-buffers", "max-size-bytes", "max-size-time", "leaky"),
    "identity": _of("sync", "single-segment"),
}
"""What may follow."""

SECRETS: Final = _of("user-id", "user-pw")
ADDRESSES: Final = _of("location", "uri")

_PACKAGES: Final[Mapping[str, str]] = {
    "nv": "the board's NVIDIA packages (nvidia-l4t-gstreamer)",
    "libcamera": "gstreamer1.0-libcamera",
    "avdec_": "gstreamer1.0-libav",
    "v4l2": "gstreamer1.0-plugins-good",
    "va": "gstreamer1.0-plugins-bad",
    "h26": "gstreamer1.0-plugins-bad",
    "openh264": "gstreamer1.0-plugins-bad",
    "souphttp": "gstreamer1.0-plugins-good",
    "rt": "gstreamer1.0-plugins-good",
}


def package_of(element: str) -> str:
    """What to install for an element that is not there.

    >>> package_of("avdec_h264")
    'gstreamer1.0-libav'
    """
    found = next((package for start, package in _PACKAGES.items() if element.startswith(start)), "")
    return found or "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
