"""What a configuration reports to: its sink, and what receivers are told of the device."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from edgeai import __version__
from edgeai.bundle import load_bundle
from edgeai.config import CameraSettings, Config, MicrophoneSettings
from edgeai.errors import EdgeError
from edgeai.hardware import read_hardware
from edgeai.sinks.delivery.drain import DrainSettings
from edgeai.sinks.inventory import DeviceFacts, RuleFacts, StreamFacts
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.seal import load_seal
from edgeai.sinks.reporting import Listening, Reports, open_reports
from edgeai.sinks.sink import Sink
from edgeai.stages.rules import AnyRuleSettings, LineSettings

OUTBOX_FILE = "outbox.db"


def device_name(config: Config) -> str:
    """The last level of the topics' root: [mqtt]'s device, the file's, or the host's name."""
    mqtt = config.mqtt
    return (mqtt.device if mqtt else None) or config.device or socket.gethostname()


def device_facts(config: Config) -> DeviceFacts:
    """The device and its streams, with what their models can tell apart. Raises BundleError."""
    hardware = read_hardware(ask_gpu=False)
    streams = tuple(_stream_facts(each) for each in config.streams)
    return DeviceFacts(device_name(config), streams, hardware.board or hardware.arch, __version__)


def make_sink(
    config: Config, *, listening: Listening, reader_gone: Callable[[], None]
) -> tuple[Sink, Callable[[Config], None]]:
    """The sink, not yet open, and whom to tell of a configuration with other streams: standard output where the file has neither [mqtt] nor [[sinks]], else all of them behind
    an outbox in state_dir. Raises EdgeError where state_dir cannot be made, ConfigError, BundleError.
    """
    if config.mqtt is None and not config.sinks:
        from edgeai.sinks.jsonl import StdoutSink
        from edgeai.sinks.payload import Envelope, new_boot_id

        return StdoutSink(Envelope(device_name(config), new_boot_id())), lambda config: None
    _make_folder(config.state_dir)
    reports = Reports(
        device_facts(config),
        config.state_dir,
        mqtt=config.mqtt,
        sinks=config.sinks,
        drain=DrainSettings(backlog_per_s=config.outbox.backlog_per_s),
        listening=listening,
        reader_gone=reader_gone,
    )
    opened = open_reports(reports, open_outbox(config))
    return opened.sink, lambda config: opened.follow(device_facts(config))


def open_outbox(config: Config) -> Outbox:
    """The configuration's outbox, not yet open. Raises ConfigError for a key file that is none."""
    settings = config.outbox
    return Outbox(
        config.state_dir / OUTBOX_FILE,
        max_bytes=settings.max_bytes,
        max_age_s=settings.max_age_s,
        seal=None if settings.key_file is None else load_seal(settings.key_file),
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(
            f"state_dir {folder} cannot be made: {error.strerror or error}",
            next_step="name a folder that can be written",
        ) from None


def _stream_facts(stream: CameraSettings | MicrophoneSettings) -> StreamFacts:
    bundle = load_bundle(stream.model)
    if isinstance(stream, MicrophoneSettings):
        return StreamFacts(stream.name, "microphone", tuple(bundle.labels), model=bundle.name)
    rules = tuple(_rule_facts(rule) for rule in stream.rules)
    return StreamFacts(stream.name, "camera", tuple(bundle.labels), rules, bundle.name)


def _rule_facts(rule: AnyRuleSettings) -> RuleFacts:
    directions = (rule.forward, rule.backward) if isinstance(rule, LineSettings) else ()
    return RuleFacts(rule.name, rule.kind, rule.classes or (), directions)
