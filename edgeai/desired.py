"""The configuration that somebody afar wants: what of it is taken, where it is kept, and when the file goes first.

Only cameras and microphones are taken. Whatever else it holds must be equal to the device's own file: who may set
cameras may not move the device to another broker, nor give himself more commands.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from edgeai.config import CameraSettings, Config, MicrophoneSettings, load_config, parse_config
from edgeai.errors import ConfigError, EdgeError, first_line
from edgeai.settings_file import parse_settings
from edgeai.sinks.commands.gate import ConfigInForce
from edgeai.sinks.commands.table import DesiredArguments
from edgeai.sources.settings import LoginSettings
from edgeai.whole_file import whole_file

log = logging.getLogger("edgeai")

FILE_NAME: Final = "desired.json"
MAX_STARTS: Final = 5
PROVEN_S: Final = 60.0
STREAM_FIELDS: Final = frozenset({"cameras", "microphones"})
_MAX_BYTES: Final = 4 << 20
_ZOO_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Desired(DesiredArguments):
    """What was applied last. base_sha256: of the device's own file then; another file goes first. void: why it is not
    used, "" where it is. starts: how many in a row ended neither in order nor after PROVEN_S.
    """

    base_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    void: str = ""
    starts: Annotated[int, Field(ge=0)] = 0

    @property
    def sha256(self) -> str:
        return text_sha256(self.toml.encode())


class DesiredStore:
    """One file in the state folder, there whole or not at all."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE_NAME

    def load(self) -> Desired | None:
        """None where there is none. One that cannot be read is told and counts as none."""
        try:
            with self.path.open("rb") as file:
                return Desired.model_validate_json(file.read(_MAX_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            log.error("%s cannot be used, the configuration file is: %s", self.path, first_line(error))
            return None

    def save(self, desired: Desired) -> None:
        """On the disk when this returns. Raises DataError."""
        with (
            whole_file(self.path, what="the desired configuration") as part,
            part.open("w", encoding="ascii") as file,
        ):
            json.dump(desired.model_dump(), file)
            file.flush()
            os.fsync(file.fileno())


def text_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_file(path: Path) -> tuple[Config, str]:
    """The device's own configuration, and the SHA-256 of its text. Raises ConfigError."""
    load_config(path)  # it has the words for a file that is absent, too large, or no file
    try:
        content = path.read_bytes()
        return parse_config(content, path), text_sha256(content)
    except OSError as error:
        raise ConfigError(f"{path}: the configuration cannot be read: {error.strerror or error}") from None


def config_in_force(path: Path, *, read_only: bool = False) -> tuple[Config, ConfigInForce]:
    """What is to run: the file, with the streams of the desired configuration as long as the file is the one that was
    there when that was applied. read_only: the file alone. Raises ConfigError for a file that is not good.
    """
    config, sha256 = read_file(path)
    desired = None if read_only else DesiredStore(config.state_dir).load()
    if desired is not None and desired.base_sha256 == sha256 and not desired.void:
        try:
            return check_desired(desired.toml, config, path), ConfigInForce(desired.version, desired.sha256)
        except ConfigError as error:
            log.error("the desired configuration %d is not good any more: %s", desired.version, error)
    return config, ConfigInForce(0, sha256)


def config_to_start(path: Path, *, read_only: bool = False) -> tuple[Config, ConfigInForce]:
    """As config_in_force, for a start of the runtime, which is counted until `prove`: a desired configuration under which
    MAX_STARTS in a row died (a driver that crashes, memory that does not suffice) is set aside, as nobody afar could mend it.
    """
    config, in_force = config_in_force(path, read_only=read_only)
    store = DesiredStore(config.state_dir)
    desired = store.load() if in_force.version else None
    if desired is None:
        return config, in_force
    if desired.starts >= MAX_STARTS:
        reason = f"{desired.starts} starts in a row died within {PROVEN_S:g} s"
        log.error("the desired configuration %d is set aside: %s", desired.version, reason)
        set_aside(config, reason)
        return config_in_force(path)
    _save_starts(store, desired, desired.starts + 1)
    return config, in_force


def prove(config: Config) -> None:
    """The start has gone well. Never raises."""
    store = DesiredStore(config.state_dir)
    desired = store.load()
    if desired is not None and desired.starts:
        _save_starts(store, desired, 0)


def _save_starts(store: DesiredStore, desired: Desired, starts: int) -> None:
    try:
        store.save(desired.model_copy(update={"starts": starts}))
    except EdgeError as error:
        log.error("%s", error)


def set_aside(config: Config, reason: str) -> None:
    """Use the desired configuration no more; its version is remembered. Never raises."""
    store = DesiredStore(config.state_dir)
    desired = store.load()
    if desired is not None and not desired.void:
        try:
            store.save(desired.model_copy(update={"void": reason or "it failed"}))
        except EdgeError as error:
            log.error("%s", error)


def check_desired(toml: str, local: Config, path: Path) -> Config:
    """`local`, the device's own file at `path`, with the cameras and microphones of `toml`.

    Sources and models must lie in the file's folder, or be what the file itself names; a model may be of the zoo. A login
    must be the file's own for that source: no secret goes to another camera than the one it was meant for.
    Raises ConfigError with the reason.
    """
    try:
        content = toml.encode()
    except UnicodeEncodeError:
        raise ConfigError("desired: not UTF-8 text") from None
    given = parse_settings(content, Config, where="desired", error=ConfigError).model_fields_set
    wanted = parse_config(content, path, where="desired")
    differing = [name for name in differences(wanted, local) if name in given]
    if differing:
        raise ConfigError(
            f"desired: {', '.join(differing)} must be as in the device's own file, or left out; "
            "only cameras and microphones are set from afar"
        )
    folder = path.resolve().parent
    sources, models = ({getattr(each, name) for each in local.streams} for name in ("source", "model"))
    for each in wanted.streams:
        what = _what(each)
        if each.source not in sources and not _inside(each.source, folder):
            raise ConfigError(f"desired: {what}: source: {_PLACES}")
        login = _login(each)
        if login is not None and (each.source, login) not in {
            (own.source, _login(own)) for own in local.streams
        }:
            raise ConfigError(
                f"desired: {what}: login: must be as in the device's own file, for the same source, or left out"
            )
        if each.model not in models and not _is_zoo_name(each.model) and not _inside(each.model, folder):
            raise ConfigError(f"desired: {what}: model: {_PLACES}, or a model of the zoo")
    return local.model_copy(update={"cameras": wanted.cameras, "microphones": wanted.microphones})


_PLACES: Final = "must be a file in the folder of the device's own configuration, or one that is named there"


def differences(config: Config, other: Config) -> list[str]:
    """The sections that differ, without cameras and microphones."""
    names = [name for name in Config.model_fields if name not in STREAM_FIELDS]
    return [name for name in names if getattr(config, name) != getattr(other, name)]


def _what(stream: CameraSettings | MicrophoneSettings) -> str:
    return f"{'camera' if isinstance(stream, CameraSettings) else 'microphone'} {stream.name}"


def _login(stream: CameraSettings | MicrophoneSettings) -> LoginSettings | None:
    return stream.login if isinstance(stream, CameraSettings) else None


def _inside(place: str, folder: Path) -> bool:
    """Whether a path, its links followed, lies in `folder`; no address of another kind does, file:// neither."""
    if "://" in place or not place.startswith("/"):
        return False
    try:
        return Path(place).resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):
        return False


def _is_zoo_name(model: str) -> bool:
    """A plain name; one that is also a folder where the process happens to be would be taken from there."""
    return _ZOO_NAME.fullmatch(model) is not None and not os.path.lexists(model)
