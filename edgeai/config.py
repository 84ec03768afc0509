"""The device's configuration: one TOML file, validated whole before anything starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edgeai.bundle.manifest import Settings
from edgeai.errors import ConfigError
from edgeai.faults import shown
from edgeai.settings_file import load_settings, parse_settings, read_settings, settings_faults
from edgeai.sinks.commands.table import CommandSettings
from edgeai.sinks.mqtt.settings import TlsSettings
from edgeai.sinks.other_settings import AnySinkSettings, FileSinkSettings, WebhookSettings
from edgeai.sinks.reporting_settings import ReportingSettings
from edgeai.sources.addresses import parse_address
from edgeai.sources.audio import is_microphone
from edgeai.sources.settings import CaptureSettings, LoginSettings
from edgeai.stages.motion import MotionSettings
from edgeai.stages.rules import AnyRuleSettings
from edgeai.stages.tracker import TrackerSettings

_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def _check_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(
            f"must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first, is {shown(name)}"
        )
    return name


# a level of MQTT topics, and a column of tables
StreamName = Annotated[
    str, AfterValidator(_check_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})
]
Address = Annotated[str, Field(min_length=1, max_length=4096)]


class CameraSettings(Settings):
    """One camera.

    name: a level of MQTT topics, so without blanks or slashes. source: a video, a picture or a folder of pictures, rtsp://,
    http://, usb:<index or path>, csi:<index> or gst:<pipeline>. model: a bundle's folder or a zoo name. engine: an engine
    file of the bundle ("onnx", "tflite/float16" or its path), the best one where absent.

    realtime: a video plays at its own speed, and frames that come while the engine is busy are dropped and counted;
    else every frame is processed, as fast as the engine goes. Pictures have no speed: every one is processed.
    max_fps: frames a second that are processed at most. capture: how the source is read. login: as whom it is read.
    motion: the model is spared frames on which nothing moves, where given. score_threshold: the least score of a box, in
    place of the bundle's. tracker: how boxes become tracks. rules: what of the tracks is told and counted.
    """

    name: StreamName
    source: Address
    model: Address
    engine: str | None = None
    realtime: bool = True
    max_fps: Annotated[float, Field(ge=0.001, le=1000)] | None = None
    capture: CaptureSettings = CaptureSettings()
    login: LoginSettings | None = None
    motion: MotionSettings | None = None
    score_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    tracker: TrackerSettings = TrackerSettings()
    rules: tuple[AnyRuleSettings, ...] = ()

    @field_validator("source")
    @classmethod
    def _known_address(cls, source: str) -> str:
        parse_address(source)
        return source

    @field_validator("rules")
    @classmethod
    def _rules_differ(cls, rules: tuple[AnyRuleSettings, ...]) -> tuple[AnyRuleSettings, ...]:
        _check_names(((rule.name, (number,)) for number, rule in enumerate(rules)), "rule of a camera")
        return rules


class MicrophoneSettings(Settings):
    """One microphone.

    name: a level of MQTT topics, as a camera's. source: "mic", "mic:<index or name>", or a sound file. model: a bundle's
    folder or a zoo name. engine: an engine file of the bundle, as for a camera. threshold: the least score of a keyword, in
    place of the bundle's.
    """

    name: StreamName
    source: Address = "mic"
    model: Address
    engine: str | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None


class OutboxSettings(Settings):
    """What waits for the broker; state_dir holds it.

    max_bytes, max_age_s: its bounds; images go first, alarms last. key_file: keys by which payloads are encrypted on
    the disk, one a line, the first seals. backlog_per_s: how fast what has waited is sent after an outage.
    """

    max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 256 << 20
    max_age_s: Annotated[float, Field(ge=60)] = 30 * 86400.0
    key_file: Path | None = None
    backlog_per_s: Annotated[float, Field(ge=1, le=1e6)] | None = 5000.0


class EnginesSettings(Settings):
    """How models are run here; all may be left out.

    cache: the folder of TensorRT's plans and of what `edgeai bench engines --save` measured; the user's or the service's
    cache folder where absent. max_cache_bytes: of that folder; what was used longest ago goes first. verify: compare each
    engine with its bundle's golden outputs before it is used. dla: the core of a Jetson's DLA that plans are built for.
    cuda_graph: replay a plan's launches as one CUDA graph. workers: how often a model is opened for the cameras that use it,
    each copy at work beside the others; absent: as often as there are cores for it, once on a GPU.
    """

    cache: Path | None = None
    max_cache_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 4 << 30
    verify: bool = False
    dla: Annotated[int, Field(ge=0, le=7)] | None = None
    cuda_graph: bool = False
    workers: Annotated[int, Field(ge=1, le=64)] | None = None


class HealthSettings(Settings):
    """What the device tells of itself; without a broker only where [health] is in the file.

    enabled: whether it tells. every_s: seconds between two reports; what changes is told at once.
    """

    enabled: bool = True
    every_s: Annotated[float, Field(ge=1, le=86400)] = 30.0


class WatchdogSettings(Settings):
    """When a native call counts as hung: its worker is abandoned and replaced.

    enabled: whether anybody looks. engine_s: how long a model's run may take; a camera's read has its capture.stall_s.
    replacements: so many workers are replaced, then the process ends itself with exit code 70, and its service manager
    starts it again. stuck_s: it does so too where the main loop stands still for so long.
    """

    enabled: bool = True
    engine_s: Annotated[float, Field(ge=0.1, le=600)] = 3.0
    stuck_s: Annotated[float, Field(ge=1, le=600)] = 10.0
    replacements: Annotated[int, Field(ge=0, le=100)] = 3


class MetricsSettings(Settings):
    """Figures for Prometheus over HTTP, where [metrics] is in the file.

    host: the address that listens; this machine alone, unless told otherwise. port: where it listens.
    """

    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    # Prometheus's list of ports (its wiki, "Default port allocations") has given all of 9100 to 9999 to other exporters
    port: Annotated[int, Field(ge=1, le=65535)] = 19477


class LogSettings(Settings):
    """What is told on standard error.

    format: "text" for people, "json" for one object a line. level: the least that is told.
    """

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Settings):
    """A device's whole configuration. Relative paths are relative to its file.

    device: the name in MQTT topics, the host's name where absent. state_dir: where the outbox lives. threads: of each
    engine. mqtt: the broker. sinks: files, webhooks and standard output beside it; events go to standard output where both
    are absent. outbox: what waits for them. engines: how models are run. commands: what may be told over MQTT, nothing where
    absent. health: what the device tells of itself. watchdog: what hangs is replaced. metrics: for Prometheus. log: what is
    told on standard error. cameras: each with a name, a source and a model. microphones: likewise.
    """

    device: StreamName | None = None
    state_dir: Path = Path("state")
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    mqtt: ReportingSettings | None = None
    sinks: tuple[AnySinkSettings, ...] = ()
    outbox: OutboxSettings = OutboxSettings()
    engines: EnginesSettings = EnginesSettings()
    commands: CommandSettings = CommandSettings()
    health: HealthSettings = HealthSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    metrics: MetricsSettings | None = None
    log: LogSettings = LogSettings()
    cameras: tuple[CameraSettings, ...] = ()
    microphones: tuple[MicrophoneSettings, ...] = ()

    @property
    def streams(self) -> tuple[CameraSettings | MicrophoneSettings, ...]:
        """Cameras, then microphones."""
        return (*self.cameras, *self.microphones)

    @model_validator(mode="after")
    def _streams_differ(self) -> Config:
        if not self.cameras and not self.microphones:
            raise ValueError("there is neither a camera nor a microphone: add [[cameras]] or [[microphones]]")
        names = [(camera.name, ("cameras", number)) for number, camera in enumerate(self.cameras)]
        names += [(each.name, ("microphones", number)) for number, each in enumerate(self.microphones)]
        _check_names(names, "camera or microphone")
        _check_names(((each.name, ("sinks", number)) for number, each in enumerate(self.sinks)), "sink")
        return self


def _check_names(named: Iterable[tuple[str, tuple[str | int, ...]]], what: str) -> None:
    """Raise for the second of two equal names, with its place, which becomes the line in the file."""
    seen: set[str] = set()
    for name, place in named:
        if name in seen:
            raise PydanticCustomError(
                "edgeai_name",
                "{name} is given twice, each {what} needs a name of its own",
                {"name": repr(name), "what": what, "below": (*place, "name")},
            )
        seen.add(name)


def config_faults(path: Path) -> tuple[str, ...]:
    """All that is wrong with the file, a line each as of load_config; none where load_config takes it."""
    try:
        content = read_settings(path, error=ConfigError)
        faults = settings_faults(content, Config, where=str(path))
        if not faults:
            parse_config(content, path)
    except ConfigError as error:
        return (str(error),)
    return faults


def load_config(path: Path) -> Config:
    """Read and check a configuration; relative paths in it come out absolute, from its folder.

    Raises ConfigError with file, line, key, and the nearest known key for an unknown one.
    """
    config = load_settings(
        path, Config, error=ConfigError, next_step="examples are in firmware_configs/examples"
    )
    return _absolute(config, path)


def parse_config(content: bytes, path: Path, *, where: str = "") -> Config:
    """As load_config, for what was, or could be, the content of the file `path`. where: its name in messages."""
    config = parse_settings(content, Config, where=where or str(path), error=ConfigError)
    return _absolute(config, path)


def _absolute(config: Config, path: Path) -> Config:
    try:
        return _placed(config, path.resolve().parent)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long for a file
        raise ConfigError(f"{path}: a path in it cannot be used: {error}") from None


def _placed(config: Config, folder: Path) -> Config:
    mqtt = config.mqtt
    if mqtt is not None:
        mqtt = _with_secrets(mqtt, folder)
        others = {"frigate": mqtt.frigate, "sparkplug": mqtt.sparkplug}
        mqtt = mqtt.model_copy(
            update={name: _with_secrets(other, folder) for name, other in others.items() if other is not None}
        )
    update = {
        "cameras": tuple(_with_addresses(camera, folder) for camera in config.cameras),
        "microphones": tuple(_with_addresses(each, folder) for each in config.microphones),
        "state_dir": folder / config.state_dir,
        "engines": _with_files(config.engines, ("cache",), folder),
        "outbox": _with_files(config.outbox, ("key_file",), folder),
        "mqtt": mqtt,
        "sinks": tuple(_with_sink_files(sink, folder) for sink in config.sinks),
    }
    return config.model_copy(update=update)


S = TypeVar("S", CameraSettings, MicrophoneSettings)


def _with_addresses(stream: S, folder: Path) -> S:
    source, model = stream.source, stream.model
    update: dict[str, Any] = {}
    if isinstance(stream, CameraSettings):
        address = parse_address(source, stream=stream.name)
        if address.is_file and "://" not in source:
            source = str(folder / source)
        if stream.login is not None:
            update["login"] = _with_files(stream.login, ("password_file",), folder)
    elif not is_microphone(source) and "://" not in source:
        source = str(folder / source)
    # a plain name is the zoo's, unless the file's folder holds such a bundle
    if not model.startswith("~") and ("/" in model or (folder / model).exists()):
        model = str(folder / model)
    return stream.model_copy(update={**update, "source": source, "model": model})


F = TypeVar("F", bound=Any)


def _with_files(settings: F, names: tuple[str, ...], folder: Path) -> F:
    """Paths among the fields, made absolute; those that are None stay so."""
    files = {name: folder / value for name in names if (value := getattr(settings, name)) is not None}
    placed: F = settings.model_copy(update=files)
    return placed


def _with_secrets(settings: F, folder: Path, names: tuple[str, ...] = ("password_file",)) -> F:
    """As _with_files, and the files of its `tls` too."""
    tls: TlsSettings | None = settings.tls
    placed: F = _with_files(settings, names, folder).model_copy(
        update={"tls": tls and _with_files(tls, ("ca", "certificate", "key"), folder)}
    )
    return placed


def _with_sink_files(sink: AnySinkSettings, folder: Path) -> AnySinkSettings:
    if isinstance(sink, WebhookSettings):
        return _with_secrets(sink, folder, ("secret_file", "bearer_token_file"))
    return _with_files(sink, ("path",), folder) if isinstance(sink, FileSinkSettings) else sink
