"""What in a configuration is right by itself and yet most likely a mistake."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgeai.config import CameraSettings, Config
from edgeai.sinks.other_settings import WebhookSettings, is_loopback
from edgeai.sources.addresses import Address, Kind, parse_address
from edgeai.toml_lines import Path as Place

# keys of a camera's capture -> the kinds of sources that heed them
_HEEDED: Final[dict[str, tuple[Kind, ...]]] = {
    "transport": ("rtsp",),
    "decoder": ("rtsp",),
    "width": ("usb", "csi"),
    "height": ("usb", "csi"),
    "fps": ("usb", "csi"),
    "loop": ("video",),
}
# a value in an address after a key of such a name, unless it is the place for the login's password
_SECRET: Final = re.compile(
    r"(?:^|[?&;/_])((?:pass(?:word|wd)?|pwd|secret|token|auth|(?:api|access)?_?key))=(?!\{password\})[^&;/_]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Remark:
    """place: the key it is about, from the root. text: one clause that names the part. absent: it is about something that is
    not there now, and opening it would tell better.
    """

    place: Place
    text: str
    absent: bool = False


def remark_on(config: Config, *, strict: bool = False) -> list[Remark]:
    """In the file's order of cameras, then what concerns the whole. strict: for `run --strict`, which writes in state_dir
    alone.

    Looks at files' rights, opens nothing, and repeats no secret.
    """
    found: list[Remark] = []
    for number, camera in enumerate(config.cameras):
        place, its = ("cameras", number), f"camera {camera.name}: "
        address = parse_address(camera.source, stream=camera.name)
        said = (
            *_on_address(camera, address),
            *_on_capture(camera, address),
            *_on_stills(camera),
            *_on_login(camera, address),
        )
        found += [replace(each, place=(*place, *each.place), text=its + each.text) for each in said]
    found += [*_on_shared_sources(config), *_on_secrets(config), *_on_metrics(config)]
    return [*found, *_on_writing(config)] if strict else found


def _on_address(camera: CameraSettings, address: Address) -> Iterator[Remark]:
    if address.kind in {"rtsp", "http"} and (secret := _SECRET.search(address.where.split("://", 1)[-1])):
        yield Remark(
            ("source",),
            f"its address holds what looks like a secret ({secret[1]}=...): write {{password}} there and put it "
            "into [cameras.login]",
        )
    if address.is_file or address.kind == "usb":
        path = device_of(address)
        if not _exists(path):
            yield Remark(("source",), f"there is no {path} now", absent=True)


def _on_capture(camera: CameraSettings, address: Address) -> Iterator[Remark]:
    capture = camera.capture
    for name, kinds in _HEEDED.items():
        if name in capture.model_fields_set and address.kind not in kinds:
            yield Remark(
                ("capture", name), f"capture.{name} does nothing: it is for {' and '.join(kinds)} sources"
            )
    if capture.fps is not None and capture.stall_s < 1 / capture.fps:
        yield Remark(
            ("capture", "stall_s"),
            f"capture.stall_s ({capture.stall_s:g}) is less than the {1 / capture.fps:g} s between two pictures at "
            f"capture.fps ({capture.fps:g}): it would be lost all the time",
        )


def _on_stills(camera: CameraSettings) -> Iterator[Remark]:
    every_s = camera.capture.every_s
    if every_s is None:
        return
    place = ("capture", "every_s")
    if camera.motion is not None:
        yield Remark(place, "capture.every_s gives single stills: motion has nothing to compare them with")
    lines = [rule.name for rule in camera.rules if rule.kind == "line"]
    if lines:
        yield Remark(
            place, f"capture.every_s gives single stills: rule {lines[0]} counts crossings, which takes video"
        )


def _on_login(camera: CameraSettings, address: Address) -> Iterator[Remark]:
    login = camera.login
    if login is None:
        return
    if address.kind not in {"rtsp", "http"}:
        yield Remark(
            ("login",), f"login does nothing: it is for rtsp and http sources, this is {address.kind}"
        )
    elif login.password_file is not None:
        if not _exists(login.password_file):
            text = f"there is no password file {login.password_file} now"
            yield Remark(("login", "password_file"), text, absent=True)
    elif login.password_env is not None and login.password_env not in os.environ:
        yield Remark(
            ("login", "password_env"),
            f"the environment variable {login.password_env} is not set here",
            absent=True,
        )


def _on_shared_sources(config: Config) -> Iterator[Remark]:
    first: dict[tuple[Kind, str], str] = {}
    by_number: list[tuple[int, str]] = []
    for number, camera in enumerate(config.cameras):
        address = parse_address(camera.source, stream=camera.name)
        if address.is_file or address.kind == "gst":
            continue
        if address.kind == "usb" and address.where.isdecimal():
            by_number.append((number, camera.name))
        key = (address.kind, os.path.realpath(device_of(address)) if address.kind == "usb" else address.where)
        other = first.setdefault(key, camera.name)
        if other != camera.name:
            told = (
                "only one of them can have it"
                if address.kind in {"usb", "csi"}
                else "it is fetched and decoded twice; give one camera the rules of both"
            )
            yield Remark(
                ("cameras", number, "source"),
                f"camera {camera.name}: it has the source of camera {other}: {told}",
            )
    if len(by_number) > 1:
        number, name = by_number[1]
        yield Remark(
            ("cameras", number, "source"),
            f"camera {name}: the numbers of USB cameras may be others after the next start; "
            "use usb:/dev/v4l/by-id/...",
        )


def _on_secrets(config: Config) -> Iterator[Remark]:
    for place, path in _secret_files(config):
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            continue  # whoever needs it tells that it is absent
        if mode & 0o006:
            yield Remark(
                place,
                f"{'.'.join(map(str, place))}: every user of this device can read {path}; chmod o-rw it",
            )


def _secret_files(config: Config) -> Iterator[tuple[Place, Path]]:
    named: list[tuple[Place, Path | None]] = [(("outbox", "key_file"), config.outbox.key_file)]
    for number, camera in enumerate(config.cameras):
        login = camera.login
        named.append((("cameras", number, "login", "password_file"), login.password_file if login else None))
    for number, sink in enumerate(config.sinks):
        if isinstance(sink, WebhookSettings):
            place = ("sinks", number)
            named += [((*place, name), getattr(sink, name)) for name in ("secret_file", "bearer_token_file")]
            named.append(((*place, "tls", "key"), sink.tls.key if sink.tls else None))
    mqtt = config.mqtt
    if mqtt is not None:
        for above, each in (
            (("mqtt",), mqtt),
            (("mqtt", "frigate"), mqtt.frigate),
            (("mqtt", "sparkplug"), mqtt.sparkplug),
        ):
            if each is not None:
                named.append(((*above, "password_file"), each.password_file))
                named.append(((*above, "tls", "key"), each.tls.key if each.tls else None))
    yield from ((place, path) for place, path in named if path is not None)


def _on_metrics(config: Config) -> Iterator[Remark]:
    if config.metrics is not None and not is_loopback(config.metrics.host):
        yield Remark(
            ("metrics", "host"),
            f"metrics.host: whoever reaches {config.metrics.host}:{config.metrics.port} reads the figures, "
            "without a password or encryption",
        )


def _on_writing(config: Config) -> Iterator[Remark]:
    places: list[tuple[Place, Path | None]] = [(("engines", "cache"), config.engines.cache)]
    places += [
        (("sinks", n, "path"), sink.path) for n, sink in enumerate(config.sinks) if sink.kind == "file"
    ]
    for place, path in places:
        if path is not None and not path.is_relative_to(config.state_dir):
            yield Remark(
                place,
                f"{'.'.join(map(str, place))}: {path} is not in state_dir ({config.state_dir}), and --strict writes "
                "nowhere else",
            )


def device_of(address: Address) -> Path:
    """Where a file or a USB camera is."""
    return Path(
        f"/dev/video{address.where}" if address.where.isdecimal() and not address.is_file else address.where
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
