"""`edgeai check`: everything about a configuration that can be known without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from edgeai.bundle import load_bundle
from edgeai.cli.host import this_host
from edgeai.config import CameraSettings, Config, MicrophoneSettings, load_config
from edgeai.console import print_json, print_note, print_table
from edgeai.pipeline import check_camera, check_voice
from edgeai.schedule.pool import EnginePool
from edgeai.sinks.outbox.seal import load_seal
from edgeai.sinks.reporting import check_reports
from edgeai.sources import open_camera
from edgeai.sources.audio import is_microphone, open_audio
from edgeai.stream import CameraStream, MicrophoneStream, naming


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    bundle: str
    note: str
    warning: str = ""


def check_config(path: Path, *, probe: bool, json_output: bool) -> int:
    """Raise the first fault, or print what would run.

    A source that is not there now is a warning: it may be plugged in later. With `probe` every model and source is
    opened, and an absent source is a fault.
    """
    config = load_config(path)
    check_reports(config.mqtt, config.sinks)
    if config.outbox.key_file is not None:
        load_seal(config.outbox.key_file)
    rows = [_check_camera(camera) for camera in config.cameras]
    rows += [_check_microphone(microphone) for microphone in config.microphones]
    if probe:
        _probe(config)
    broker = _reports_to(config)
    warnings = [f"{row.kind} {row.name}: {row.warning}" for row in rows if row.warning]
    if json_output:
        streams = [{"name": r.name, "kind": r.kind, "bundle": r.bundle, "note": r.note} for r in rows]
        facts = {"ok": True, "probed": probe, "reports_to": broker, "streams": streams, "warnings": warnings}
        print_json({"config": str(path), **facts})
        return 0
    for warning in warnings:
        print_note(f"edgeai: warning: {warning}")
    cells = [(row.name, row.kind, row.bundle, row.note) for row in rows]
    print_table(["stream", "kind", "bundle", ""], cells, title=f"{path}: good; reports to {broker}")
    return 0


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


def _check_camera(camera: CameraSettings) -> _Row:
    with naming(f"camera {camera.name}"):
        bundle = load_bundle(camera.model)
        check_camera(bundle, rules=camera.rules, engine=camera.engine, score_threshold=camera.score_threshold)
        open_camera(camera.source, stream=camera.name)
    note = f"{len(camera.rules)} rules"
    return _Row(camera.name, "camera", bundle.name, note, _absent(camera.source))


def _check_microphone(microphone: MicrophoneSettings) -> _Row:
    live = is_microphone(microphone.source)
    warning = "" if live else _absent(microphone.source)
    with naming(f"microphone {microphone.name}"):
        bundle = load_bundle(microphone.model)
        check_voice(bundle, engine=microphone.engine, threshold=microphone.threshold)
        if not warning:
            open_audio(microphone.source, stream=microphone.name)
    return _Row(microphone.name, "microphone", bundle.name, f"{len(bundle.labels)} labels", warning)


def _absent(source: str) -> str:
    path = unquote(urlparse(source).path) if source.startswith("file://") else source
    return "" if Path(path).exists() else f"there is no {path} now"


def _probe(config: Config) -> None:
    """Open and close everything, one stream after the other."""
    host = this_host(config.engines)
    pool = EnginePool(host=host, threads=config.threads)
    for camera in config.cameras:
        with naming(f"camera {camera.name}"):
            stream = CameraStream(camera, pool=pool, profile=host.profile)
            try:
                with open_camera(camera.source, request=stream.request):
                    pass
            finally:
                stream.close()
    for microphone in config.microphones:
        with naming(f"microphone {microphone.name}"):
            heard = MicrophoneStream(microphone, threads=config.threads, host=host)
            try:
                heard.source.open()
            finally:
                heard.close()
