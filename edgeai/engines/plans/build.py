"""An ONNX file into a TensorRT plan: one path for all releases, one branch for how each is told of precisions.

Never run on a GPU so far. The parser and builder of TensorRT for RTX, which need none, take this very path in `make trt-check`.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edgeai.console import progress_bar
from edgeai.engines.plans.library import TensorRT, has_dla, takes_dla
from edgeai.errors import EngineUnavailableError

log = logging.getLogger("edgeai")

Shape = tuple[int, ...]
_PROGRESS_STEPS = 1000


class PlanBuildError(EngineUnavailableError):
    """TensorRT makes no plan of a file. Another engine may run it."""


@dataclass(frozen=True, slots=True)
class PlanSettings:
    """What a plan is built for, beside the ONNX file.

    precision: of the file: "int8" holds Q/DQ. shapes: {input: (smallest, usual, largest)} for inputs with dimensions that
    the file leaves open; where it is silent, all are 1 but the first, which reaches to max_batch and is tuned for it. workspace_bytes: what the builder may use at once. dla: the core to build for, None for
    the GPU; layers that it cannot take run on the GPU. timing: a serialized timing cache of this GPU and release.
    """

    precision: str
    workspace_bytes: int = 1 << 30
    max_batch: int = 1
    shapes: Mapping[str, tuple[Shape, Shape, Shape]] = field(default_factory=dict)
    dla: int | None = None
    timing: bytes = b""

    @property
    def flags(self) -> str:
        """What decides how a plan comes out, as text for its key."""
        shapes = sorted((name, *sizes) for name, sizes in self.shapes.items())
        return f"precision={self.precision} dla={self.dla} batch={self.max_batch} shapes={shapes}"


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """plan: serialized. timing: the timing cache as it is now. note: what a user should know of the build; may be empty."""

    plan: bytes
    timing: bytes
    note: str


def build_plan(
    library: TensorRT,
    onnx: bytes,
    settings: PlanSettings,
    *,
    name: str,
    configure: Callable[[Any], None] | None = None,
    quiet: bool = False,
) -> BuiltPlan:
    """Parse an ONNX model and build its plan, with a progress bar where the release tells its progress.

    name: the file's, for messages. configure: called with the builder's config before the build. quiet: without the bar.
    Raises PlanBuildError with what TensorRT says, KeyboardInterrupt at the next step after a Ctrl-C or SIGTERM.
    """
    trt = library.module
    library.logger.errors.clear()
    network_flags, builder_flags = precision_flags(library, settings.precision, dla=settings.dla is not None)
    builder = trt.Builder(library.logger)
    network = builder.create_network(network_flags)
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(onnx):
        told = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise PlanBuildError(
            f"{name}: TensorRT {library.text} cannot parse it: {'; '.join(told)[:400] or library.why()}",
            next_step="`edgeai-compress trt-check` tells which node",
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    for flag in builder_flags:
        config.set_flag(flag)
    note = _use_dla(library, builder, network, config, settings.dla) if settings.dla is not None else ""
    _add_profile(builder, network, config, settings, name)
    timing = _use_timing(config, settings.timing)
    if configure is not None:
        configure(config)
    with _progress(library, config, name, quiet=quiet) as stopped:
        plan = builder.build_serialized_network(network, config)
    if stopped():
        raise KeyboardInterrupt
    if plan is None:
        raise PlanBuildError(f"{name}: TensorRT {library.text} cannot build it: {library.why()}")
    return BuiltPlan(bytes(plan), bytes(timing.serialize()) if timing is not None else b"", note)


def precision_flags(library: TensorRT, precision: str, *, dla: bool = False) -> tuple[int, tuple[Any, ...]]:
    """(flags of the network, flags of the builder) by which a release is told that a file is float32, float16 or int8.

    8: the batch is explicit, and the builder is allowed the precisions. 10: int8 likewise, so that what stands between the
    Q/DQ pairs runs in float16; what holds no pairs is built as typed in the file, but for a DLA, which goes by the
    builder's flags. 11 builds everything as typed.
    """
    trt, major = library.module, library.version[0]
    if major >= 11:
        return 0, ()
    flags = trt.BuilderFlag
    if major >= 10 and precision != "int8" and not dla:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), ()
    allowed = {"int8": (flags.INT8, flags.FP16), "float16": (flags.FP16,)}.get(precision, ())
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH), allowed


def _use_dla(library: TensorRT, builder: Any, network: Any, config: Any, core: int) -> str:
    trt = library.module
    if not has_dla(library.version):
        return f"TensorRT {library.text} builds for no DLA: all runs on the GPU"
    if not takes_dla(library, builder, core):
        return f"there is no DLA core {core} here ({builder.num_DLA_cores} are there): all runs on the GPU"
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    left = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    if not left:
        return f"all {len(layers)} layers run on DLA core {core}"
    shown = ", ".join(left[:5]) + (", …" if len(left) > 5 else "")
    return f"{len(layers) - len(left)} of {len(layers)} layers run on DLA core {core}, the GPU takes {shown}"


def _add_profile(builder: Any, network: Any, config: Any, settings: PlanSettings, where: str) -> None:
    """One optimization profile where an input's shape is open."""
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    shapes = settings.shapes
    unknown = set(shapes) - {each.name for each in inputs}
    if unknown:
        raise PlanBuildError(f"{where}: no input is called {', '.join(sorted(unknown))}")
    opened = [each for each in inputs if any(size < 0 for size in tuple(each.shape))]
    if not opened:
        return
    profile = builder.create_optimization_profile()
    for each in opened:
        name = each.name
        shape = tuple(each.shape)
        least = tuple(1 if size < 0 else size for size in shape)
        most = (settings.max_batch, *least[1:]) if shape[0] < 0 else least
        profile.set_shape(name, *shapes.get(name, (least, most, most)))
    if config.add_optimization_profile(profile) < 0:
        raise PlanBuildError(f"{where}: TensorRT refuses the shapes {dict(shapes)}")


def _use_timing(config: Any, kept: bytes) -> Any:
    """The timing cache of the build: the kept one where it fits this GPU and release, else a new one."""
    timing = config.create_timing_cache(kept) if kept else None
    if timing is not None and config.set_timing_cache(timing, False):
        return timing
    timing = config.create_timing_cache(b"")
    return timing if timing is not None and config.set_timing_cache(timing, False) else None


@contextmanager
def _progress(library: TensorRT, config: Any, name: str, *, quiet: bool) -> Iterator[Callable[[], bool]]:
    """A bar over the build; yields whether a signal ended it. A release without progress gets a line and no bar."""
    trt = library.module
    if quiet or not hasattr(trt, "IProgressMonitor"):
        log.info("building %s for TensorRT %s: minutes, once for this machine", name, library.text)
        yield lambda: False
        return
    with progress_bar(f"building {name}", _PROGRESS_STEPS) as advance, _signals() as came:
        monitor = _monitor(trt, advance, came)
        config.progress_monitor = monitor
        yield lambda: bool(monitor.stopped)
        advance(_PROGRESS_STEPS - monitor.shown)  # phases that a builder leaves out end it too


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yields whether a signal that Python handles has come, which any thread may ask.

    Its handler waits for the main thread, and that is in the builder for minutes; the wake-up file is written at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def came() -> bool:
            try:
                return bool(reader.recv(1))
            except BlockingIOError:
                return False

        try:
            yield came
        finally:
            signal.set_wakeup_fd(before)


def _monitor(trt: Any, advance: Callable[[int], None], came: Callable[[], bool]) -> Any:
    """Shows how much of the outermost phase is done, by its own steps and those of the phase right inside it.

    The builder calls it from threads of its own; where `came()`, it is told to stop.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self.shown = 0
            self._phases: list[str] = []
            self._steps: dict[str, tuple[int, int]] = {}  # (done, of)
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases.append(phase_name)
                self._steps[phase_name] = (0, max(1, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                with self._lock:
                    self.stopped = self.stopped or came()
                    self._steps[phase_name] = (step + 1, self._steps.get(phase_name, (0, 1))[1])
                    new = int(_PROGRESS_STEPS * min(1.0, self._done())) - self.shown
                    if new > 0:
                        self.shown += new
                        advance(new)
            except (
                KeyboardInterrupt
            ):  # in the main thread; it must not travel through the builder, which is no Python
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)
                if phase_name in self._phases:
                    self._phases.remove(phase_name)

        def _done(self) -> float:
            done, share = 0.0, 1.0
            for phase in self._phases[:2]:
                steps, of = self._steps[phase]
                share /= of
                done += share * steps
            return done

    return Monitor()
