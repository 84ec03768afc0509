"""`edgeai check`: everything about a configuration that can be known without running it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeai.cli.examine import Findings, StreamFacts, examine
from edgeai.cli.host import this_host
from edgeai.cli.probe import (
    CameraProbe,
    ModelProbe,
    probe_cameras,
    probe_microphones,
    probe_models,
    write_snapshots,
)
from edgeai.cli.strict import strict_cache
from edgeai.config import Config, config_faults, load_config
from edgeai.console import print_json, print_note, print_table, progress_bar
from edgeai.engines import EngineHost
from edgeai.errors import ConfigError, EdgeError


@dataclass(slots=True)
class _Probed:
    """What was found by opening."""

    models: dict[str, ModelProbe] = field(default_factory=dict)
    cameras: dict[str, CameraProbe] = field(default_factory=dict)
    snapshots: dict[str, Path] = field(default_factory=dict)


def check_config(
    path: Path,
    *,
    probe: bool = False,
    strict: bool = False,
    snapshots: Path | None = None,
    json_output: bool = False,
) -> int:
    """Tell every fault and every warning, a line each, and what would run; 0 where there is no fault.

    A source that is not there now is a warning: it may be plugged in later. With `probe` every model and source is
    opened, and an absent source is a fault. snapshots: a folder for a JPEG of each camera, which takes a probe. strict: as
    `edgeai run --strict` sees it, which takes no warning.
    """
    try:
        config = load_config(path)
    except ConfigError as error:
        findings = Findings([*config_faults(path)] or [str(error)], exit_code=error.exit_code)
        return _refuse(path, findings, json_output=json_output)
    probing = probe or snapshots is not None
    host = this_host(config.engines, cache=strict_cache(config) if strict or not probing else None)
    findings = examine(config, path, profile=host.profile, strict=strict, probing=probing)
    probed = _probe(config, host, findings, snapshots) if probing else _Probed()
    if strict:
        findings.be_strict()
    broker = _reports_to(config)
    if json_output:
        facts = {"config": str(path), "ok": not findings.faults, "probed": probing, "strict": strict}
        streams = [_json_of(each, probed) for each in findings.streams]
        print_json({**facts, "reports_to": broker, "streams": streams, **_told(findings)})
    _tell_lines(findings)
    if not json_output:
        _print_tables(path, findings, probed, broker)
    return findings.exit_code


def _refuse(path: Path, findings: Findings, *, json_output: bool) -> int:
    """What cannot be read has nothing else to tell."""
    if json_output:
        print_json({"config": str(path), "ok": False, **_told(findings)})
    _tell_lines(findings)
    return findings.exit_code


def _told(findings: Findings) -> dict[str, Any]:
    return {"warnings": findings.warnings, "faults": findings.faults}


def _tell_lines(findings: Findings) -> None:
    for warning in findings.warnings:
        print_note(f"edgeai: warning: {warning}")
    for fault in findings.faults:
        print_note(f"edgeai: error: {fault}")


def _print_tables(path: Path, findings: Findings, probed: _Probed, broker: str) -> None:
    if not findings.faults:
        rows = [(each.name, each.kind, each.bundle, each.note) for each in findings.streams]
        print_table(["stream", "kind", "bundle", ""], rows, title=f"{path}: good; reports to {broker}")
    seen = [
        (each.name, _size(each), _number(each.fps, 1), _number(each.first_frame_s, 2), _engine(each, probed))
        for each in probed.cameras.values()
        if each.frame is not None
    ]
    if seen:
        print_table(["camera", "size", "fps", "first frame s", "engine"], seen)
    runs = {each.runs: each for each in probed.models.values() if each.runs}
    for each in runs:
        print_table([], [], title=each)
    for name, picture in probed.snapshots.items():
        print_table([], [], title=f"{name}: {picture}")


def _size(probe: CameraProbe) -> str:
    return "x".join(map(str, probe.size_px or ()))


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _engine(probe: CameraProbe, probed: _Probed) -> str:
    model = probed.models.get(probe.name)
    return model.engine if model is not None else ""


def _json_of(stream: StreamFacts, probed: _Probed) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": stream.name,
        "kind": stream.kind,
        "bundle": stream.bundle,
        "note": stream.note,
    }
    model, camera = probed.models.get(stream.name), probed.cameras.get(stream.name)
    if model is not None:
        told |= {"engine": model.engine or None, "runs": model.runs or None}
    if camera is not None:
        size = camera.size_px
        told |= {
            "source": camera.source,
            "width_px": size[0] if size else None,
            "height_px": size[1] if size else None,
            "fps": _rounded(camera.fps, 2),
            "first_frame_s": _rounded(camera.first_frame_s, 3),
        }
        picture = probed.snapshots.get(stream.name)
        told |= {"snapshot": str(picture)} if picture is not None else {}
    return told


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _reports_to(config: Config) -> str:
    """Never an address of a webhook: it may be secret."""
    places = [f"{config.mqtt.host}:{config.mqtt.port}"] if config.mqtt else []
    if config.mqtt is not None:
        places += [
            f"as {name}"
            for name in ("frigate", "hermes", "home_assistant", "sparkplug")
            if getattr(config.mqtt, name)
        ]
    places += [f"{sink.kind} {sink.name}" for sink in config.sinks]
    return ", ".join(places) or "standard output"


def _probe(config: Config, host: EngineHost, findings: Findings, snapshots: Path | None) -> _Probed:
    """Open everything; what cannot be opened is among the faults."""
    probed = _Probed()
    with _progress(len(config.streams) + len(config.cameras)) as advance:
        for model in probe_models(config, host, done=advance) + probe_microphones(config, host, done=advance):
            probed.models[model.stream] = model
        for camera in probe_cameras(config, host, done=advance):
            probed.cameras[camera.name] = camera
    problems = [each.problem for each in probed.models.values()]
    problems += [each.problem for each in probed.cameras.values()]
    for problem in problems:
        if problem and problem not in findings.faults:  # a bundle that is absent was told
            findings.fail(EdgeError(problem))
    for camera in probed.cameras.values():
        findings.warnings += camera.warnings
    if snapshots is not None:
        with findings.failing():
            probed.snapshots = write_snapshots(snapshots, [*probed.cameras.values()])
    return probed


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Of parts that were opened, on a terminal; a log gets none: it is over within seconds."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    with progress_bar("opening", total) as advance:
        yield lambda name: advance(1, name)
