"""A real RTSP camera: gst-rtsp-server in a process of its own.

How to use it:

    from rtsp_damage import DamagingLink
    from rtsp_server import RtspServer, read_mark, require_rtsp_server

    require_rtsp_server()  # skips, or fails where EDGEAI_REQUIRE_DATA=1, when the Debian packages are not there
    with RtspServer(width_px=640, height_px=360, fps=15) as server:
        server.url                      # rtsp://127.0.0.1:<port>/live
        server.resize(320, 240)         # another size within the same connection
        server.pace(5)                  # another rate within the same connection
        server.freeze(); server.thaw()  # SIGSTOP: connections stay, nothing comes
        server.kill(); server.start()   # a power cut; the same port
        server.restart(width_px=320)    # comes back as another camera
    RtspServer(codec="mjpeg"), RtspServer(user="u", password="p", digest=True), RtspServer(transports="udp"),
    RtspServer(clip=path), RtspServer(audio=True) (sound beside the picture; for one viewer), RtspServer(key_frame_s=10)

Without a clip the pictures move, and carry marks: `read_mark(image)` gives a frame's index and the millisecond, of
time.monotonic, in which it was made.

    with RtspServer() as server, DamagingLink(server.port, damage="flip") as link:
        server.url_through(link.port)   # TCP only; link.damage = None heals it

Half-open connections, refused ones and thin links: `fault_suite.link.Link(server.port)`, with `server.url_through`.
One process of its own for each server, by the system's Python: PyGObject belongs to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly gstreamer1.0-libav"
MARK_COLUMNS, MARK_ROWS = 40, 15  # the grid of the marks: 32 bits in each of the two top rows


@dataclass(frozen=True)
class Camera:
    """What the server plays the camera with."""

    port: int = 0
    width_px: int = 640
    height_px: int = 360
    fps: float = 15.0
    codec: Literal["h264", "mjpeg"] = "h264"
    key_frame_s: float = 1.0
    clip: str = ""
    clip_s: float = 10.0
    user: str = ""
    password: str = ""
    digest: bool = False
    transports: Literal["both", "tcp", "udp"] = "both"
    audio: bool = False


class RtspServer:
    """Runs while inside `with`. The fields of `Camera` are its settings."""

    def __init__(self, **settings: object) -> None:
        self.camera = Camera(**settings)  # type: ignore[arg-type]
        self._process: subprocess.Popen[str] | None = None
        if not self.camera.port:
            self.camera = replace(self.camera, port=_free_port())
        self.port = self.camera.port
        self.url = self.url_through(self.port)

    def url_through(self, port: int) -> str:
        """The address by way of a proxy that listens on that port."""
        return f"rtsp://127.0.0.1:{port}/live"

    def start(self) -> None:
        """Back when it listens."""
        settings = json.dumps(asdict(self.camera))
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, __file__, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer(60)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def restart(self, **changes: object) -> None:
        self.kill()
        self.camera = replace(self.camera, **changes)  # type: ignore[arg-type]
        self.start()

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def resize(self, width_px: int, height_px: int) -> None:
        self._tell(f"size {width_px} {height_px}")

    def pace(self, fps: float) -> None:
        self._tell(f"fps {fps}")

    def clients(self) -> int:
        """How many connections it has."""
        return int(self._tell("clients"))

    def connections(self) -> int:
        """How many connections it has ever had since it was started."""
        return int(self._tell("connections"))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _tell(self, command: str) -> str:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer(10)

    def _answer(self, limit_s: float) -> str:
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            self.kill()
            raise RuntimeError(f"the RTSP server did not answer within {limit_s} s")
        line = self._process.stdout.readline().strip()
        if not line.startswith("ok"):
            self.kill()
            raise RuntimeError(f"the RTSP server failed: {line or 'it ended'}")
        return line[2:].strip()

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def read_mark(image) -> tuple[int, int]:
    """(index, made_ms) of a picture from a server without a clip; made_ms is of time.monotonic, modulo 2**32."""
    height, width = image.shape[:2]
    cell_w, cell_h = width / MARK_COLUMNS, height / MARK_ROWS
    numbers = []
    for row in (0, 1):
        number = 0
        for bit in range(32):
            top, left = int((row + 0.3) * cell_h), int((bit + 0.3) * cell_w)
            cell = image[top : int((row + 0.7) * cell_h) + 1, left : int((bit + 0.7) * cell_w) + 1]
            number = number << 1 | int(cell.mean() > 128)
        numbers.append(number)
    return numbers[0], numbers[1]


def age_ms(image) -> int:
    """How long ago a picture with marks was made."""
    return (int(time.monotonic() * 1000) - read_mark(image)[1]) % 2**32


def rtsp_server_missing() -> str:
    """Why no server can be run here, "" where one can."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"there is no {SYSTEM_PYTHON}"
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    done = subprocess.run([SYSTEM_PYTHON, "-c", probe], check=False, capture_output=True)
    return f"needs Debian's {PACKAGES}" if done.returncode else ""


def require_rtsp_server() -> None:
    """Skips the test where no server can be run; fails it where CI says that everything must be there."""
    import pytest

    if why := rtsp_server_missing():
        if os.environ.get("EDGEAI_REQUIRE_DATA") == "1":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


# ---- from here on the server's own process ----


def _serve(camera: Camera) -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    gi.require_version("GstRtsp", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(camera.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    if camera.transports != "both":
        flag = GstRtsp.RTSPLowerTrans.TCP if camera.transports == "tcp" else GstRtsp.RTSPLowerTrans.UDP
        factory.set_protocols(flag)
    factory.set_launch(_launch(camera))
    pictures = _Pictures(Gst, camera)
    factory.connect("media-configure", pictures.configured)
    if camera.user:
        _protect(GstRtspServer, GstRtsp, server, factory, camera)
    server.get_mount_points().add_factory("/live", factory)
    seen = [0]

    def connected(*_: object) -> None:
        seen[0] += 1

    server.connect("client-connected", connected)
    if not server.attach(None):
        print(f"cannot listen on port {camera.port}", flush=True)
        return
    threading.Thread(target=pictures.run, daemon=True).start()
    loop = GLib.MainLoop()

    def obey() -> None:
        for line in sys.stdin:  # its end is the end of who started this
            verb, *rest = line.split()
            said = ""
            if verb == "size":
                pictures.resize(int(rest[0]), int(rest[1]))
            elif verb == "fps":
                pictures.fps = float(rest[0])
            elif verb == "clients":
                said = str(len(server.client_filter(None, None)))
            elif verb == "connections":
                said = str(seen[0])
            print(f"ok {said}", flush=True)
        loop.quit()

    threading.Thread(target=obey, daemon=True).start()
    print("ok", flush=True)
    loop.run()


def _protect(GstRtspServer, GstRtsp, server, factory, camera: Camera) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if camera.digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(camera.user, camera.password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(camera.user, camera.password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("viewer")
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def _encoder(camera: Camera) -> str:
    if camera.codec == "mjpeg":
        return "jpegenc quality=80"
    gop = max(1, round(camera.key_frame_s * camera.fps))
    return f"x264enc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=2000 key-int-max={gop}"


def _launch(camera: Camera) -> str:
    pay = (
        "rtpjpegpay name=pay0 pt=26"
        if camera.codec == "mjpeg"
        else "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96"
    )
    size = f"width={camera.width_px},height={camera.height_px}"
    sound = (
        " audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0"
    )
    head = (
        "appsrc name=pictures is-live=true format=time do-timestamp=true max-buffers=2 leaky-type=downstream"
    )
    scaled = f"videoscale ! capsfilter name=size caps=video/x-raw,{size} ! {_encoder(camera)} ! "
    return f"( {head} ! {'' if camera.clip else scaled}{pay}{sound if camera.audio else ''} )"


def _encoded_clip(Gst, camera: Camera) -> tuple[str, list[bytes]]:
    """The caps and the access units of the clip's first clip_s seconds: they can be repeated without a gap."""
    frames = max(1, round(camera.clip_s * camera.fps))
    raw = f"format=I420,width={camera.width_px},height={camera.height_px},framerate={round(camera.fps * 1000)}/1000"
    pipeline = Gst.parse_launch(
        f'filesrc location="{camera.clip}" ! decodebin ! videoconvert ! videoscale ! videorate ! video/x-raw,{raw} ! '
        f"identity eos-after={frames} ! {_encoder(camera)} ! appsink name=out sync=false"
    )
    pipeline.set_state(Gst.State.PLAYING)
    units, caps = [], ""
    while (sample := pipeline.get_by_name("out").emit("pull-sample")) is not None:
        caps = sample.get_caps().to_string()
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(Gst.State.NULL)
    if not units:
        print(f"nothing could be read of {camera.clip}", flush=True)
        raise SystemExit(1)
    return caps, units


class _Pictures:
    """Feeds the running media, with moving pictures that carry marks or with a clip over and over."""

    def __init__(self, Gst, camera: Camera) -> None:
        self.fps = camera.fps
        self._gst = Gst
        self._width, self._height = camera.width_px, camera.height_px
        self._source = self._size = self._sound = None
        self._units: list[bytes] = []
        self._sent = ""
        rate = max(1, round(self.fps))
        self._caps = f"video/x-raw,format=I420,width={self._width},height={self._height},framerate={rate}/1"
        if camera.clip:
            self._caps, self._units = _encoded_clip(Gst, camera)
        rng = random.Random(0)
        cells = [[rng.randrange(40, 216) for _ in range(self._width // 16 + 1)] for _ in range(64)]
        rows = [bytes(v for v in row for _ in range(16))[: self._width] for row in cells]
        self._ground = b"".join(row * 16 for row in rows)  # 1024 rows; a window of it wanders
        self._chroma = bytes([128]) * (self._width // 2 * (self._height // 2) * 2)

    def configured(self, _factory: object, media) -> None:
        pipeline = media.get_element()
        self._size = pipeline.get_by_name("size")
        self._source = pipeline.get_by_name("pictures")
        self._sound = pipeline.get_by_name("sound")
        if self._sent and self._size is not None:
            self._size.set_property("caps", self._gst.Caps.from_string(self._sent))
        self._source.set_property("caps", self._gst.Caps.from_string(self._caps))

    def resize(self, width: int, height: int) -> None:
        self._sent = f"video/x-raw,width={width},height={height}"
        if self._size is not None:
            self._size.set_property("caps", self._gst.Caps.from_string(self._sent))

    def run(self) -> None:
        index, due = 0, time.monotonic()
        while True:
            due = max(due + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            if self._source is not None:
                data = self._units[index % len(self._units)] if self._units else self._picture(index)
                self._source.emit("push-buffer", self._gst.Buffer.new_wrapped(data))
            if self._sound is not None:
                silence = b"\xff" * round(8000 / self.fps)
                self._sound.emit("push-buffer", self._gst.Buffer.new_wrapped(silence))
            index += 1

    def _picture(self, index: int) -> bytes:
        width, height = self._width, self._height
        rows = len(self._ground) // width
        start = (index * 4) % rows * width
        ground = (self._ground[start:] + self._ground * (height // rows + 1))[: width * height]
        made_ms = int(time.monotonic() * 1000) % 2**32
        marks = b""
        for row, number in enumerate((index % 2**32, made_ms)):
            bits = f"{number:032b}"
            line = b"".join(
                (b"\xeb" if column < 32 and bits[column] == "1" else b"\x10")
                * ((column + 1) * width // MARK_COLUMNS - column * width // MARK_COLUMNS)
                for column in range(MARK_COLUMNS)
            )
            marks += line * ((row + 1) * height // MARK_ROWS - row * height // MARK_ROWS)
        return marks + ground[len(marks) :] + self._chroma


if __name__ == "__main__":
    _serve(Camera(**json.loads(sys.argv[1])))
