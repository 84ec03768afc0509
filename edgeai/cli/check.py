"""`edgeai check`: everything about a configuration that can be known without running it."""

from __future__ import annotations

from pathlib import Path

from edgeai.bundle import load_bundle
from edgeai.config import load_config
from edgeai.console import print_json, print_table
from edgeai.errors import BundleError
from edgeai.stages.rules import open_rule
from edgeai.types import JsonValue


def check_config(path: Path, *, probe: bool, json_output: bool) -> int:
    """Raise the first fault, or print what would run. With `probe` engines and sources are opened too."""
    config = load_config(path)
    rows: list[tuple[str, str, str, str]] = []
    for camera in config.cameras:
        bundle = load_bundle(camera.model)
        if bundle.manifest.task != "detect":
            raise BundleError(
                f"camera {camera.name}: {bundle.name} is for task {bundle.manifest.task!r}, not 'detect'"
            )
        for rule in camera.rules:
            open_rule(rule, labels=bundle.labels)
        rows.append((camera.name, "camera", bundle.name, f"{len(camera.rules)} rules"))
        if probe:
            from edgeai.pipeline import CameraPipeline
            from edgeai.sources import open_camera

            with CameraPipeline(bundle, engine=camera.engine), open_camera(camera.source, stream=camera.name):
                pass
    for microphone in config.microphones:
        bundle = load_bundle(microphone.model)
        if bundle.manifest.task != "keyword":
            raise BundleError(
                f"microphone {microphone.name}: {bundle.name} is for task {bundle.manifest.task!r}, not 'keyword'"
            )
        rows.append((microphone.name, "microphone", bundle.name, f"{len(bundle.labels)} labels"))
        if probe:
            from edgeai.pipeline import VoicePipeline
            from edgeai.sources.audio import open_audio

            with (
                VoicePipeline(bundle, engine=microphone.engine) as pipeline,
                open_audio(
                    microphone.source, stream=microphone.name, sample_rate_hz=pipeline.spec.sample_rate_hz
                ),
            ):
                pass
    broker = f"{config.mqtt.host}:{config.mqtt.port}" if config.mqtt else "standard output"
    if json_output:
        streams: list[JsonValue] = [
            {"name": name, "kind": kind, "bundle": bundle, "note": note} for name, kind, bundle, note in rows
        ]
        print_json({"config": str(path), "ok": True, "reports_to": broker, "streams": streams})
    else:
        print_table(["stream", "kind", "bundle", ""], rows, title=f"{path}: good; reports to {broker}")
    return 0
