"""The device's configuration: one TOML file, validated whole before anything starts."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from edgeai.bundle.manifest import Settings
from edgeai.errors import ConfigError
from edgeai.sinks.settings import MqttSettings
from edgeai.stages.rules import AnyRuleSettings
from edgeai.stages.tracker import TrackerSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CONFIG_BYTES = 1 << 20
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class CameraSettings(Settings):
    """One camera. source: a video file or a folder of pictures. model: a bundle's folder or a zoo name.

    realtime: a video plays at its own speed and frames that come too fast are dropped and counted; otherwise every
    frame is processed, as fast as the engine goes. score_threshold overrides the bundle's.
    """

    name: StreamName
    source: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    engine: str | None = None
    realtime: bool = True
    score_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    tracker: TrackerSettings = TrackerSettings()
    rules: tuple[AnyRuleSettings, ...] = ()

    @field_validator("rules")
    @classmethod
    def _rules_have_names(cls, rules: tuple[Any, ...]) -> tuple[Any, ...]:
        return _unique(rules, "rule")


class MicrophoneSettings(Settings):
    """One microphone. source: "mic", "mic:<index or name>", or a sound file. model: a bundle's folder or a zoo name."""

    name: StreamName
    source: Annotated[str, Field(min_length=1)] = "mic"
    model: Annotated[str, Field(min_length=1)]
    engine: str | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None


class OutboxSettings(Settings):
    """Bounds of what waits for the broker; state_dir holds it."""

    max_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = 256 << 20
    max_age_s: Annotated[float, Field(ge=60)] = 30 * 86400.0


class Config(Settings):
    """The whole file. Relative paths are relative to it.

    device: the name in MQTT topics, the host's name where absent. state_dir: where the outbox lives. mqtt absent:
    events go to standard output. threads: of each engine.
    """

    device: StreamName | None = None
    state_dir: Path = Path("state")
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    mqtt: MqttSettings | None = None
    outbox: OutboxSettings = OutboxSettings()
    cameras: tuple[CameraSettings, ...] = ()
    microphones: tuple[MicrophoneSettings, ...] = ()

    @model_validator(mode="after")
    def _streams_differ(self) -> Config:
        _unique((*self.cameras, *self.microphones), "camera or microphone")
        if not self.cameras and not self.microphones:
            raise ValueError("there is neither a camera nor a microphone: add [[cameras]] or [[microphones]]")
        return self


def _unique(named: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    names = [item.name for item in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two of the name {twice!r}: each {what} needs its own")
    return named


def load_config(path: Path) -> Config:
    """Read and check a configuration; paths in it come out resolved against its folder.

    Raises ConfigError with file, line, key, and the nearest known key for an unknown one.
    """
    if not path.is_file():
        raise ConfigError(
            f"no configuration at {path}", next_step="examples are in firmware_configs/examples"
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES >> 20} MiB; that is no configuration")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is no TOML that can be read: {error}") from None
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_fault(path, text, error)) from None
    return _resolved(config, path.resolve().parent)


def _resolved(config: Config, folder: Path) -> Config:
    """Paths of the file's own folder; what is not there (zoo names, devices) stays as it is."""

    def place(where: str) -> str:
        return str(folder / where) if "://" not in where and (folder / where).exists() else where

    cameras = tuple(
        camera.model_copy(update={"source": place(camera.source), "model": place(camera.model)})
        for camera in config.cameras
    )
    microphones = tuple(
        microphone.model_copy(update={"source": place(microphone.source), "model": place(microphone.model)})
        for microphone in config.microphones
    )
    update: dict[str, Any] = {
        "cameras": cameras,
        "microphones": microphones,
        "state_dir": folder / config.state_dir,
    }
    mqtt = config.mqtt
    if mqtt is not None:
        changes: dict[str, Any] = {}
        if mqtt.password_file is not None:
            changes["password_file"] = folder / mqtt.password_file
        if mqtt.tls is not None:
            files = {
                k: folder / v for k in ("ca", "certificate", "key") if (v := getattr(mqtt.tls, k)) is not None
            }
            changes["tls"] = mqtt.tls.model_copy(update=files)
        update["mqtt"] = mqtt.model_copy(update=changes)
    return config.model_copy(update=update)


def _fault(path: Path, text: str, error: ValidationError) -> str:
    """One line of the first fault: file, line, key, what is wrong, the nearest key."""
    first = error.errors()[0]
    # discriminator values (cameras.0.rules.0.line.a) are no keys of the file
    loc = [part for i, part in enumerate(first["loc"]) if not (part in ("line", "zone", "track") and i)]
    line = _line_of(text, loc)
    where = f"{path}:{line}" if line else str(path)
    key = ".".join(str(part) for part in loc)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), _keys(Config), n=1)
        return f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _keys(model: type[BaseModel], seen: set[type] | None = None) -> set[str]:
    """Every key that may stand anywhere in the file."""
    seen = seen if seen is not None else set()
    seen.add(model)
    keys = set(model.model_fields)
    pending: list[Any] = [field.annotation for field in model.model_fields.values()]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in seen:
                keys |= _keys(kind, seen)
        else:
            pending.extend(getattr(kind, "__args__", ()))
    return keys


def _line_of(text: str, loc: list[Any]) -> int:
    """The line of a key, by its tables' headers; 0 where it cannot be told (a key in an inline table, a missing one)."""
    names = [str(part) for part in loc if isinstance(part, str)]
    indices = {str(loc[i - 1]): int(part) for i, part in enumerate(loc) if isinstance(part, int) and i}
    if not names:
        return 0
    seen: dict[str, int] = {}
    table: list[str] = []
    header_line, best = 0, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[{1,2}([^\]]+)\]{1,2}", line)
        if header:
            table = [part.strip().strip('"') for part in header.group(1).split(".")]
            if line.lstrip().startswith("[["):
                seen[table[-1]] = seen.get(table[-1], -1) + 1
                if table[-1] == "cameras":
                    seen.pop("rules", None)
            here = all(seen.get(name, 0) == index for name, index in indices.items() if name in table)
            if here and names[: len(table)] == table:
                header_line = number
            continue
        key = re.match(r'\s*"?([A-Za-z0-9_-]+)"?\s*=', line)
        if not key or not all(seen.get(name, 0) == index for name, index in indices.items() if name in table):
            continue
        if [*table, key.group(1)] == names[: len(table) + 1]:
            best = number
    return best or header_line
