"""A configuration held against this device: its models, files and sources, without running it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgeai.bundle import load_bundle
from edgeai.cli.remarks import remark_on
from edgeai.config import CameraSettings, Config, MicrophoneSettings
from edgeai.errors import EdgeError, SourceFormatError, SourceMissingError
from edgeai.exporter import check_library
from edgeai.pipeline import check_camera, check_voice
from edgeai.profile import Profile
from edgeai.settings_file import MAX_SETTINGS_BYTES
from edgeai.sinks.outbox.seal import load_seal
from edgeai.sinks.reporting import check_reports
from edgeai.sources import CameraRequest, open_camera
from edgeai.sources.audio import open_audio
from edgeai.stream import naming
from edgeai.toml_lines import Path as Place
from edgeai.toml_lines import key_lines, line_of


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A camera or microphone whose model fits it. kind: "camera" or "microphone"; note: what there is of it."""

    name: str
    kind: str
    bundle: str
    note: str


@dataclass(slots=True)
class Findings:
    """faults: with any of these it does not run; warnings: with these it does, most likely not as was meant; a line each.
    streams: those without a fault of their model. exit_code: 0 where there is no fault.
    """

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    streams: list[StreamFacts] = field(default_factory=list)
    exit_code: int = 0

    def fail(self, error: EdgeError) -> None:
        self.faults.append(" ".join(str(error).split()))
        self.exit_code = max(self.exit_code, error.exit_code)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """What raises an EdgeError inside is a fault, and the others are looked at all the same."""
        try:
            yield
        except EdgeError as error:
            self.fail(error)

    def be_strict(self) -> None:
        """Every warning is a fault."""
        if self.warnings:
            self.exit_code = max(self.exit_code, 2)
        self.faults += self.warnings
        self.warnings = []


def examine(
    config: Config, path: Path, *, profile: Profile | None, strict: bool = False, probing: bool = False
) -> Findings:
    """Everything about the configuration from the file `path` that can be known without opening a camera or an engine.

    profile: of this device. strict: as `run --strict` sees it, every warning a fault. probing: whatever it names will be
    opened, so that nothing needs to be said of what is not there. Raises nothing: what is wrong is among the faults.
    """
    findings = Findings()
    if config.mqtt is not None:
        with findings.failing():
            check_reports(config.mqtt, ())
    for sink in config.sinks:
        with findings.failing():
            check_reports(None, (sink,))
    if config.outbox.key_file is not None:
        with findings.failing():
            load_seal(config.outbox.key_file)
    if config.metrics is not None:
        with findings.failing():
            check_library()
    for camera in config.cameras:
        with findings.failing():
            findings.streams.append(_camera_facts(camera))
        with findings.failing(), naming(f"camera {camera.name}"):
            source = open_camera(camera.source, request=request_of(camera, profile))
            if camera.capture.every_s is not None and not source.live:
                raise SourceFormatError(
                    "capture.every_s is for cameras, its source is a file",
                    next_step="leave it out, or name a camera",
                )
    for microphone in config.microphones:
        with findings.failing():
            findings.streams.append(_microphone_facts(microphone))
        with findings.failing(), naming(f"microphone {microphone.name}"):
            try:
                open_audio(microphone.source, stream=microphone.name)
            except SourceMissingError:
                if probing:
                    continue
                findings.warnings.append(f"microphone {microphone.name}: there is no {microphone.source} now")
    lines = _lines(path)
    for remark in remark_on(config, strict=strict):
        if remark.absent and probing:
            continue
        line = line_of(lines, remark.place)
        findings.warnings.append(f"{remark.text} (line {line})" if line else remark.text)
    if strict:
        findings.be_strict()
    return findings


def request_of(camera: CameraSettings, profile: Profile | None) -> CameraRequest:
    """How its source is read, at its full rate."""
    return CameraRequest(
        camera.name, realtime=True, capture=camera.capture, login=camera.login, profile=profile
    )


def _camera_facts(camera: CameraSettings) -> StreamFacts:
    with naming(f"camera {camera.name}"):
        bundle = load_bundle(camera.model)
        check_camera(bundle, rules=camera.rules, engine=camera.engine, score_threshold=camera.score_threshold)
    return StreamFacts(camera.name, "camera", bundle.name, f"{len(camera.rules)} rules")


def _microphone_facts(microphone: MicrophoneSettings) -> StreamFacts:
    with naming(f"microphone {microphone.name}"):
        bundle = load_bundle(microphone.model)
        check_voice(bundle, engine=microphone.engine, threshold=microphone.threshold)
    return StreamFacts(microphone.name, "microphone", bundle.name, f"{len(bundle.labels)} labels")


def _lines(path: Path) -> dict[Place, int]:
    """Of each key of the file; none where it is not there any more, or was changed into something else."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SETTINGS_BYTES)
    except OSError:
        return {}
    return key_lines(content.decode("utf-8-sig", errors="replace").replace("\r\n", "\n"))
