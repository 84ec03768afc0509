"""`edgeai mqtt watch`: a subscriber for people."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pydantic import ValidationError

from edgeai.cli.mqtt_lines import Lines, summary_json, tell_summary
from edgeai.console import print_json, print_note
from edgeai.errors import ConfigError, EdgeError, UsageError
from edgeai.faults import describe_fault, nearest_hint
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.topics import TopicError, check_level
from edgeai.sinks.watch.client import WatchClient
from edgeai.sinks.watch.messages import CLASSES, Sighting, WatchClass, Watcher, WatchFilter
from edgeai.whole_file import write_whole

_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Access:
    """How the broker is reached: what options say, before what a device's configuration says."""

    host: str | None
    port: int | None
    config: Path | None
    tls: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None
    username: str | None
    password_file: Path | None

    def settings(self) -> MqttSettings:
        """Raises ConfigError, UsageError."""
        given: dict[str, Any] = {}
        if self.config is not None:
            from edgeai.config import load_config

            mqtt = load_config(self.config).mqtt
            if mqtt is None:
                raise ConfigError(f"{self.config} has no [mqtt]", next_step="give --host")
            given = mqtt.model_dump(exclude_unset=True)
        options: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "password_file": self.password_file,
        }
        given |= {name: value for name, value in options.items() if value is not None}
        files = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        named = {name: path for name, path in files.items() if path is not None}
        if named or self.tls:
            given["tls"] = (given.get("tls") or {}) | named
        given.setdefault("host", "127.0.0.1")
        try:
            return MqttSettings(**given)
        except ValidationError as error:
            fault = describe_fault(error.errors(include_url=False)[0], MqttSettings)
            raise UsageError(f"the broker's settings are wrong: {fault.text}") from None


def watch(
    access: Access,
    *,
    device: str | None,
    stream: str | None,
    type_: str | None,
    classes: list[str],
    topic: str | None,
    count: int | None,
    seconds: float | None,
    save_images: Path | None,
    json_output: bool,
) -> int:
    """Show messages until Ctrl-C (130), `count` lines (0), or `seconds` (0; 1 where `count` was not reached).

    Raises UsageError, ConfigError, TransportError where the broker is not there at the beginning or refuses us.
    """
    wanted = _filter(device, stream, type_, classes, topic)
    settings = access.settings()
    watcher = Watcher(wanted)
    lines = Lines(json_output=json_output)

    def on_link(problem: str) -> None:
        if problem:
            print_note(f"edgeai: warning: {problem}; waiting for the broker")
        else:
            watcher.reconnected()
            print_note("edgeai: connected again")

    client = WatchClient(settings, wanted.topics, on_link=on_link)
    pictures = _Pictures(save_images) if save_images is not None else None
    began_s = time.monotonic()
    shown, code = 0, 0
    try:
        for inbound in client.messages():
            for sighting in watcher.take(inbound) if inbound is not None else ():
                lines.show(sighting, saved=pictures.save(sighting) if pictures else "")
                shown += 1
                if shown == count:
                    break
            if shown == count:
                break
            if seconds is not None and time.monotonic() - began_s >= seconds:
                code = 0 if count is None else 1
                break
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        client.close()
    if json_output:
        print_json({"summary": summary_json(watcher.counts)})
    else:
        tell_summary(watcher.counts)
    return code


def _filter(
    device: str | None, stream: str | None, type_: str | None, classes: list[str], topic: str | None
) -> WatchFilter:
    try:
        for what, name in (("--device", device), ("--stream", stream)):
            if name is not None:
                check_level(name, what=what)
    except TopicError as error:
        raise UsageError(str(error)) from None
    for name in classes:
        if name not in CLASSES:
            raise UsageError(f"--class {name!r} is unknown; {nearest_hint(name, CLASSES)}")
    if topic is not None:
        _check_filter(topic)
    return WatchFilter(device, stream, type_, tuple(cast(WatchClass, name) for name in classes), topic)


def _check_filter(topic: str) -> None:
    """MQTT 5.0, section 4.7: '#' alone in the last level, '+' alone in any."""
    levels = topic.split("/")
    wrong = (
        not topic
        or "\0" in topic
        or len(topic.encode(errors="replace")) > 65535
        or any("#" in level and level != "#" for level in levels)
        or "#" in levels[:-1]
        or any("+" in level and level != "+" for level in levels)
    )
    if wrong:
        raise UsageError(
            f"--topic {topic[:80]!r} is no MQTT filter",
            next_step="use + for one level, # for all that follow",
        )


class _Pictures:
    """Pictures as files, named by device, stream and time; names are made safe, whatever a topic holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgeError(f"{folder} cannot be made: {error.strerror or error}") from None

    def save(self, sighting: Sighting) -> str:
        """The name of the file, "" for what is no picture. Raises DataError where it cannot be written."""
        if not sighting.picture:
            return ""
        self._number += 1
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(sighting.arrived_s))
        name = f"{_safe(sighting.device)}_{_safe(sighting.stream)}_{stamp}_{self._number:05d}.jpg"
        write_whole(self._folder / name, sighting.picture)
        return name


def _safe(name: str) -> str:
    kept = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "_" for sign in name)
    return kept[:64].lstrip(".") or "_"
