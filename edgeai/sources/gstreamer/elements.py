"""The elements that a pipeline may consist of, the properties that may be set, and what they may be: all else is refused.

Nothing here writes a file, sends anything on, runs a program, loads code or opens a device other than a camera. multifilesrc
is not here: its location is a format of printf's; a folder of pictures is a source of its own.
"""

from __future__ import annotations

import re
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
"""Properties that hold nothing but {username} or {password}."""

ADDRESSES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "rtspsrc": ("location", ("rtsp", "rtsps", "rtspt", "rtspu", "rtsph")),
    "souphttpsrc": ("location", ("http", "https")),
    "uridecodebin": ("uri", ("file", "http", "https", "rtsp", "rtsps")),
}
"""Which property of a source is an address, of which kinds: GStreamer knows others that open anything (fd:, appsrc:, data:)."""

REQUIRED: Final[Mapping[str, str]] = {
    "filesrc": "location",
    **{name: property_name for name, (property_name, _) in ADDRESSES.items()},
}
"""What a source needs to be told."""

PATTERNS: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "device": (
        re.compile(r"/dev/(video\d{1,4}|v4l/by-(id|path)/[^/]+)"),
        "/dev/video0 or /dev/v4l/by-id/...",
    ),
    "address": (re.compile(r"[0-9A-Fa-f.:]{2,45}"), "an IP address"),
    "boundary": (re.compile(r"[\x21-\x7e]{1,70}"), "1 to 70 letters"),
}
"""What a property must look like, and how that is said. To open another device than a camera can be an act: a watchdog's
restarts the machine.
"""

LARGEST: Final[Mapping[str, int]] = {
    "max-size-buffers": 1000,
    "max-size-bytes": 256 << 20,
    "max-size-time": 60_000_000_000,  # ns
    "latency": 60_000,  # ms
    "buffer-size": 64 << 20,
    "udp-buffer-size": 64 << 20,
    "num-extra-surfaces": 64,
    "n-threads": 64,
    "max-threads": 64,
    "threads": 64,
}
"""What would otherwise take a device's memory."""

MAX_SIDE_PX: Final = 16384

_BAD: Final = "gstreamer1.0-plugins-bad"
_GOOD: Final = "gstreamer1.0-plugins-good"
_NVIDIA: Final = "the board's NVIDIA packages (nvidia-l4t-gstreamer)"
# by the longest beginning that fits
_PACKAGES: Final[Mapping[str, str]] = {
    "nv": _NVIDIA,
    "libcamera": "gstreamer1.0-libcamera",
    "avdec_": "gstreamer1.0-libav",
    "v4l2": _GOOD,
    "v4l2sl": _BAD,
    "va": _BAD,
    "h26": _BAD,
    "openh264": _BAD,
    "jpegparse": _BAD,
    "bayer": _BAD,
    "tsdemux": _BAD,
    "soup": _GOOD,
    "rt": _GOOD,
    "qt": _GOOD,
    "matroska": _GOOD,
    "avidemux": _GOOD,
    "multipart": _GOOD,
    "jpegdec": _GOOD,
    "vp": _GOOD,
    "udp": _GOOD,
    "videocrop": _GOOD,
    "videoflip": _GOOD,
    "videobalance": _GOOD,
    "deinterlace": _GOOD,
}


def package_of(element: str) -> str:
    """What to install for an element that is not there, on Debian and what comes of it.

    >>> package_of("avdec_h264"), package_of("videoscale")
    ('gstreamer1.0-libav', 'gstreamer1.0-plugins-base')
    """
    starts = [start for start in _PACKAGES if element.startswith(start)]
    return _PACKAGES[max(starts, key=len)] if starts else "gstreamer1.0-plugins-base"
