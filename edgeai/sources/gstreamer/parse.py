"""The text of a pipeline, taken apart by us: GStreamer's own parser knows no limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from edgeai.errors import SourceFormatError
from edgeai.faults import nearest_hint
from edgeai.sources.gstreamer.elements import ADDRESSES, FILTERS, SECRETS, SOURCES

MAX_TEXT: Final = 4096
MAX_ELEMENTS: Final = 32

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_KEY: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
_CAPS: Final = re.compile(
    r"(video|image|application|multipart)/[a-z0-9.+-]+(\([A-Za-z0-9:, ]{1,60}\))?(\s*,.*)?"
)
# a caps field: a name and a value without anything nested
_FIELD: Final = re.compile(
    r"\s*[a-z][a-z0-9-]*\s*=\s*(\([a-z]+\)\s*)?([A-Za-z0-9_/.:+-]+|\"[A-Za-z0-9_/.:+ -]*\")\s*"
)
_WORD: Final = re.compile(r'\s*([^\s"=]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*)))?(?=\s|$)')
_PLACEHOLDERS: Final = ("{username}", "{password}")


@dataclass(frozen=True, slots=True)
class Element:
    """One step: an element by name with its properties as text, or caps that a stream must have (name "capsfilter")."""

    name: str
    properties: Mapping[str, str] = field(default_factory=dict)


def parse_pipeline(text: str) -> tuple[Element, ...]:
    """The elements of "videotestsrc is-live=true ! video/x-raw,width=640 ! videoflip method=clockwise".

    Raises SourceFormatError for whatever is not in the tables of `elements`, for a source that is not first, for passwords,
    and for text that is no pipeline; with the nearest name, and never with an address.
    """
    if len(text) > MAX_TEXT:
        raise SourceFormatError(f"a pipeline's text may have {MAX_TEXT} characters, this has {len(text)}")
    parts = _split(text)
    if len(parts) > MAX_ELEMENTS:
        raise SourceFormatError(f"a pipeline may have {MAX_ELEMENTS} elements, this has {len(parts)}")
    return tuple(_element(part, first=not number) for number, part in enumerate(parts))


def is_live(elements: tuple[Element, ...]) -> bool:
    """Whether what the pipeline begins with is a camera or stream, which may be away; files and test pictures are not."""
    source = elements[0]
    if source.name == "filesrc":
        return False
    if source.name == "videotestsrc":
        return source.properties.get("is-live", "false").lower() in {"true", "1", "yes"}
    return not (source.name == "uridecodebin" and source.properties.get("uri", "").startswith("file:"))


def file_of(element: Element) -> str:
    """The path of the file that it reads; "" for one that reads none."""
    if element.name == "filesrc":
        return element.properties.get("location", "")
    uri = element.properties.get("uri", "") if element.name == "uridecodebin" else ""
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else ""


def _split(text: str) -> list[str]:
    """At every "!" outside of quotes."""
    parts, quoted, escaped = [""], False, False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            quoted = not quoted
        elif letter == "!" and not quoted:
            parts.append("")
            continue
        parts[-1] += letter
    if quoted:
        raise SourceFormatError("a pipeline's text has a quote that is not closed")
    if not all(part.strip() for part in parts):
        raise SourceFormatError(
            "a pipeline's text has nothing before, after or between two '!'",
            next_step='write it as in "v4l2src device=/dev/video0 ! videoconvert"',
        )
    return [part.strip() for part in parts]


def _element(part: str, *, first: bool) -> Element:
    if "/" in part.split("=", 1)[0].split(" ", 1)[0]:
        return _caps(part, first=first)
    words = _words(part)
    name, properties = words[0][0], dict(words[1:])
    if words[0][1] is not None or _NAME.fullmatch(name) is None:
        raise SourceFormatError(f"{_shown(name)} is no element of a pipeline")
    table = SOURCES if first else FILTERS
    known = table.get(name)
    if known is None:
        if name in SOURCES or name in FILTERS:
            where = "nothing comes before it" if name in SOURCES else "a pipeline begins with a source"
            raise SourceFormatError(f"element {name!r} is in the wrong place: {where}")
        raise SourceFormatError(
            f"element {name!r} is not one that a pipeline may have", next_step=nearest_hint(name, [*table])
        )
    checked: dict[str, str] = {}
    for key, value in properties.items():
        if value is None or _KEY.fullmatch(key) is None:
            raise SourceFormatError(f"element {name!r}: {_shown(key)} is no property; write name=value")
        if key not in known:
            hint = nearest_hint(key, sorted(known)) if known else "it has none that may be set"
            raise SourceFormatError(
                f"element {name!r}: property {_shown(key)} may not be set", next_step=hint
            )
        _check_value(name, key, value)
        checked[key] = value
    return Element(name, checked)


def _words(part: str) -> list[tuple[str, str | None]]:
    """(word, None) or (key, value), in their order; a key twice is refused."""
    words: list[tuple[str, str | None]] = []
    at = 0
    while at < len(part.rstrip()):
        found = _WORD.match(part, at)
        if found is None:
            raise SourceFormatError("a pipeline's text cannot be read: write elements as in name key=value")
        quoted, plain = found[2], found[3]
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        if any(found[1] == word for word, _ in words):
            raise SourceFormatError(f"{_shown(found[1])} is given twice in one element of a pipeline")
        words.append((found[1], value))
        at = found.end()
    return words


def _caps(part: str, *, first: bool) -> Element:
    fields = part.split(",")[1:]
    if first or _CAPS.fullmatch(part) is None or not all(_FIELD.fullmatch(each) for each in fields):
        raise SourceFormatError(
            f"{_shown(part)} is no description of a stream",
            next_step="write it as in video/x-raw,width=1280,height=720,framerate=30/1, after a source",
        )
    return Element("capsfilter", {"caps": part})


def _check_value(name: str, key: str, value: str) -> None:
    if any(ord(letter) < 32 for letter in value):
        raise SourceFormatError(f"element {name!r}: {key} holds a control character")
    if key in SECRETS and value not in _PLACEHOLDERS:
        raise SourceFormatError(
            f"element {name!r}: {key} is written in the pipeline",
            next_step="put it into [cameras.login], and leave it out here",
        )
    if key in ADDRESSES and "://" in value:
        try:
            parts = urlsplit(value)
            login = parts.username is not None or parts.password is not None
        except ValueError:
            raise SourceFormatError(f"element {name!r}: {key} is no address") from None
        if login:
            raise SourceFormatError(
                f"element {name!r}: {key} holds a user or a password",
                next_step="put it into [cameras.login]: username, and password_file or password_env",
            )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
