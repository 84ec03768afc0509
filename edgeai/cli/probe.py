"""`edgeai check --probe`: every model and source of a configuration, opened once, and what they give."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle import load_bundle
from edgeai.cli.examine import request_of
from edgeai.config import CameraSettings, Config
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, SourceError, SourceFormatError
from edgeai.schedule.pool import EnginePool
from edgeai.sources import Source, open_camera
from edgeai.sources.addresses import parse_address
from edgeai.sources.pictures import as_bgr
from edgeai.stream import MicrophoneStream, naming
from edgeai.types import Frame
from edgeai.whole_file import write_whole

MEASURE_S: Final = 1.0
_CLOSE_S: Final = 2.0  # what a source gets to end after it was told to
_POLL_S: Final = 0.05
_MAX_SNAPSHOT_BYTES: Final = 16 << 20
# of 255, on a picture of at most 64 pixels a side: sensors in the dark make noise above this, lens caps and dead decoders do not
_BLACK, _FLAT = 4.0, 1.5


@dataclass(slots=True)
class CameraProbe:
    """What a camera's source gave. first_frame_s: from the beginning of its opening. fps: by the times of its frames, None
    for pictures and where there were not two. frame: the newest. problem: why there is none, "" where there is one.
    """

    name: str
    source: str
    frame: Frame | None = None
    frames: int = 0
    fps: float | None = None
    first_frame_s: float | None = None
    problem: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Width, height."""
        return None if self.frame is None else (self.frame.image.shape[1], self.frame.image.shape[0])


@dataclass(frozen=True, slots=True)
class ModelProbe:
    """stream: whose model. engine: the label of a camera's. runs: what runs it, and why that. problem: why nothing does."""

    stream: str
    engine: str = ""
    runs: str = ""
    problem: str = ""


def probe_models(
    config: Config, host: EngineHost, *, done: Callable[[str], None] = lambda name: None
) -> list[ModelProbe]:
    """Open the model of every camera, as `edgeai run` would, one that several use once, and close it again. done: called
    with a camera's name after its model.
    """
    pool = EnginePool(host=host, threads=config.threads, workers=1)
    found: list[ModelProbe] = []
    try:
        for camera in config.cameras:
            try:
                with naming(f"camera {camera.name}"):
                    bundle = load_bundle(camera.model)
                    group = pool.lease(bundle, camera.engine)
                runs = f"{bundle.name} on {group.engine_label}, {group.engine_reason}"
                found.append(ModelProbe(camera.name, group.engine_label, runs))
            except EdgeError as error:
                found.append(ModelProbe(camera.name, problem=str(error)))
            done(camera.name)
    finally:
        pool.close(_CLOSE_S)
    return found


def probe_microphones(
    config: Config, host: EngineHost, *, done: Callable[[str], None] = lambda name: None
) -> list[ModelProbe]:
    """Open every microphone with its model, one after the other, and close it again. done: as of probe_models."""
    found = []
    for microphone in config.microphones:
        try:
            with naming(f"microphone {microphone.name}"):
                stream = MicrophoneStream(microphone, threads=config.threads, host=host)
                try:
                    stream.source.open()
                finally:
                    stream.close()
            found.append(ModelProbe(microphone.name, runs=stream.model))
        except EdgeError as error:
            found.append(ModelProbe(microphone.name, problem=str(error)))
        done(microphone.name)
    return found


def probe_cameras(
    config: Config, host: EngineHost, *, done: Callable[[str], None] = lambda name: None
) -> list[CameraProbe]:
    """Read every camera's source for a second, all at once, in the configuration's order.

    A camera that gives no picture within its capture.open_s is given up, and its thread left behind where a native call
    hangs in it. done: called with its name as each is known.
    """
    looks = [_Look(camera, host) for camera in config.cameras]
    for look in looks:
        look.begin()
    waiting = list(looks)
    while waiting:
        for look in [each for each in waiting if each.settled()]:
            waiting.remove(look)
            done(look.probe.name)
        if waiting:
            waiting[0].over.wait(_POLL_S)
    return [look.probe for look in looks]


class _Look:
    """One camera's: a thread reads, the caller's watches the time."""

    def __init__(self, camera: CameraSettings, host: EngineHost) -> None:
        self.probe = CameraProbe(camera.name, str(parse_address(camera.source, stream=camera.name)))
        self.over = threading.Event()
        self._camera = camera
        self._profile = host.profile
        self._source: Source[Frame] | None = None
        self._lock = threading.Lock()  # after `_given_up` the thread changes nothing any more
        self._given_up = False
        self._damaged = ""
        self._began_s = 0.0
        self._times_s: list[float] = []

    def begin(self) -> None:
        self._began_s = time.monotonic()
        threading.Thread(target=self._run, name=f"probe {self._camera.name}", daemon=True).start()

    def settled(self) -> bool:
        """Whether it is known what the source gives; a source that takes too long is told to end, and not waited for."""
        if self.over.is_set():
            self._judge()
            return True
        capture = self._camera.capture
        spent_s = time.monotonic() - self._began_s
        with self._lock:
            first_s = self.probe.first_frame_s
            limit_s = capture.open_s if first_s is None else first_s + MEASURE_S + capture.stall_s
            if spent_s < limit_s:
                return False
            self._given_up = True
            if first_s is None:
                why = f": {self._damaged}" if self._damaged else ""
                self.probe.problem = f"it gave no picture within {capture.open_s:g} s (capture.open_s){why}"
        if self._source is not None:
            self._source.cancel()
        self._judge()
        return True

    def _run(self) -> None:
        try:
            self._read()
            if not self.probe.frames:
                raise SourceError(self._damaged or "it has no picture")
        except EdgeError as error:
            self._fail(str(error))
        except Exception as error:
            self._fail(f"a fault of the program: {type(error).__name__}: {error}")
        finally:
            self.over.set()

    def _fail(self, problem: str) -> None:
        with self._lock:
            if self._given_up:
                return
            if self.probe.frame is None:
                self.probe.problem = problem
            else:
                self.probe.warnings.append(f"it ended after {self.probe.frames} frames: {problem}")

    def _read(self) -> None:
        probe, stall_s = self.probe, self._camera.capture.stall_s
        source = self._source = open_camera(
            self._camera.source, request=request_of(self._camera, self._profile)
        )
        with source:
            for frame in source:
                now_s = time.monotonic()
                try:
                    picture = replace(frame, image=as_bgr(frame.image))
                except SourceFormatError as error:  # one may be damaged; where all are, open_s ends it
                    self._damaged = str(error)
                    continue
                with self._lock:
                    if self._given_up:
                        return
                    probe.frame = picture
                    probe.frames += 1
                    self._times_s.append(frame.time_s)
                    if probe.first_frame_s is None:
                        probe.first_frame_s = now_s - self._began_s
                measured_s = now_s - self._began_s - probe.first_frame_s
                if measured_s >= MEASURE_S and (probe.frames > 1 or measured_s >= stall_s):
                    return

    def _judge(self) -> None:
        """Once nobody reads any more."""
        probe, capture = self.probe, self._camera.capture
        if probe.problem:
            probe.problem = f"camera {probe.name}: {probe.problem}"
            return
        frame = probe.frame
        if frame is None:
            return
        address = parse_address(self._camera.source)
        took_s = self._times_s[-1] - self._times_s[0]
        if address.kind != "pictures" and took_s > 0:
            probe.fps = (len(self._times_s) - 1) / took_s
        probe.warnings += picture_warnings(frame.image)
        asked = (capture.width, capture.height)
        size = probe.size_px
        if size is not None and any(
            want is not None and want != is_ for want, is_ in zip(asked, size, strict=True)
        ):
            want = "x".join("any" if each is None else str(each) for each in asked)
            probe.warnings.append(f"it gives {size[0]}x{size[1]}, capture asks for {want}")
        if address.live and probe.fps is not None:
            if capture.fps is not None and probe.fps < 0.8 * capture.fps:
                probe.warnings.append(
                    f"it gives {probe.fps:.1f} frames a second, capture asks for {capture.fps:g}"
                )
            if capture.stall_s * probe.fps < 1:
                probe.warnings.append(
                    f"its frames come every {1 / probe.fps:.1f} s, and after capture.stall_s ({capture.stall_s:g}) "
                    "without one it counts as lost"
                )
        elif address.live and probe.fps is None:
            probe.warnings.append("it gave one picture and no second")
        probe.warnings = [f"camera {probe.name}: {each}" for each in probe.warnings]


def picture_warnings(image: NDArray[np.uint8]) -> list[str]:
    """What is suspicious of a picture (H, W, 3): that it is black, or all of one colour.

    >>> picture_warnings(np.zeros((4, 4, 3), np.uint8))
    ['its picture is black: is the lens covered, is it night?']
    """
    step = max(1, max(image.shape[:2]) // 64)
    small = image[::step, ::step].reshape(-1, image.shape[2]).astype(np.float32)
    if float(small.mean()) < _BLACK:
        return ["its picture is black: is the lens covered, is it night?"]
    if float(small.std(axis=0).max()) < _FLAT:
        return ["its picture is all of one colour: is the lens covered, or the stream damaged?"]
    return []


def write_snapshots(folder: Path, probes: Sequence[CameraProbe]) -> dict[str, Path]:
    """A JPEG of each camera's newest frame, <name>.jpg, there whole or not at all; by camera. Raises DataError, StageError.

    A camera's name has neither slashes nor a dot first: no file is written outside of the folder.
    """
    from edgeai.stages.jpeg import encode_jpeg

    return {
        probe.name: write_whole(
            folder / f"{probe.name}.jpg",
            encode_jpeg(probe.frame.image, max_bytes=_MAX_SNAPSHOT_BYTES, quality=90),
        )
        for probe in probes
        if probe.frame is not None
    }
