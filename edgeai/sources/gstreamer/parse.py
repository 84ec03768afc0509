"""The text of a pipeline, taken apart by us: GStreamer's own parser knows no limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from edgeai.errors import SourceFormatError
from edgeai.faults import nearest_hint
from edgeai.sources.gstreamer.elements import (
    ADDRESSES,
    FILTERS,
    LARGEST,
    MAX_SIDE_PX,
    PATTERNS,
    REQUIRED,
    SECRETS,
    SOURCES,
)

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
_SIDE: Final = re.compile(r"\s*(?:width|height)\s*=\s*(?:\(int\)\s*)?\"?\s*0*(\d+)")
_PLACEHOLDERS: Final = ("{username}", "{password}")
_YES: Final = frozenset({"true", "t", "yes", "1"})  # as GStreamer reads booleans


@dataclass(frozen=True, slots=True)
class Element:
    """One step: an element by name with its properties as text, or caps that a stream must have (name "capsfilter")."""

    name: str
    properties: Mapping[str, str] = field(default_factory=dict)


def parse_pipeline(text: str) -> tuple[Element, ...]:
    """The elements of "videotestsrc is-live=true ! video/x-raw,width=640 ! videoflip method=clockwise".

    Raises SourceFormatError for whatever is not in the tables of `elements`, for a source that is not first, for passwords,
    and for text that is no pipeline; with the nearest name, and never with a value, which may be a secret.
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
        return source.properties.get("is-live", "").lower() in _YES
    return not (source.name == "uridecodebin" and source.properties.get("uri", "").startswith("file:"))


def file_of(element: Element) -> str:
    """The path of the file that it reads; "" for one that reads none."""
    if element.name == "filesrc":
        return element.properties.get("location", "")
    uri = element.properties.get("uri", "") if element.name == "uridecodebin" else ""
    return unquote(urlsplit(uri).path) if uri.startswith("file:") else ""


def needs_login(elements: tuple[Element, ...]) -> bool:
    """Whether a {username} or {password} is to be filled in."""
    texts = [text for element in elements for text in element.properties.values()]
    return any(word in text for word in _PLACEHOLDERS for text in texts)


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
    if "/" in part.split("=", 1)[0].strip().split(" ", 1)[0]:
        return _caps(part, first=first)
    words = _words(part)
    name, properties = words[0][0], dict(words[1:])
    if words[0][1] is not None or _NAME.fullmatch(name) is None:
        raise SourceFormatError("a pipeline's text has something that is no element between two '!'")
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
        hint = nearest_hint(key, sorted(known)) if known else "it has none that may be set"
        if value is None:
            # what stands alone may be a value, and a value a secret: only a property's name is repeated
            alone = f"property {key!r} has no value" if key in known else "a word has no '='"
            raise SourceFormatError(f"element {name!r}: {alone}", next_step="write name=value, no spaces")
        if _KEY.fullmatch(key) is None or key not in known:
            its = f"property {key!r}" if _KEY.fullmatch(key) else "one of its properties"
            raise SourceFormatError(f"element {name!r}: {its} may not be set", next_step=hint)
        _check_value(name, key, value)
        checked[key] = value
    _check_whole(name, checked)
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
            its = f"property {found[1]!r}" if _KEY.fullmatch(found[1]) else "something"
            raise SourceFormatError(f"{its} is given twice in one element of a pipeline")
        words.append((found[1], value))
        at = found.end()
    return words


def _caps(part: str, *, first: bool) -> Element:
    fields = part.split(",")[1:]
    if first or _CAPS.fullmatch(part) is None or not all(_FIELD.fullmatch(each) for each in fields):
        raise SourceFormatError(
            "a pipeline's text has something that is no description of a stream",
            next_step="write it as in video/x-raw,width=1280,height=720,framerate=30/1, after a source",
        )
    for side in filter(None, map(_SIDE.match, fields)):
        if int(side[1]) > MAX_SIDE_PX:
            raise SourceFormatError(f"pictures of a pipeline may have {MAX_SIDE_PX} pixels a side, at most")
    return Element("capsfilter", {"caps": part})


def _check_value(name: str, key: str, value: str) -> None:
    its = f"element {name!r}: {key}"
    if not value.isprintable():
        raise SourceFormatError(f"{its} holds a control character")
    address, schemes = ADDRESSES.get(name, ("", ()))
    if key == address:
        _check_address(its, value, schemes)
    elif key in SECRETS:
        if value not in _PLACEHOLDERS:
            raise SourceFormatError(
                f"{its} is written in the pipeline",
                next_step="put it into [cameras.login], and leave it out here",
            )
    elif any(word in value for word in _PLACEHOLDERS):
        raise SourceFormatError(f"{its} is no place for {{username}} or {{password}}")
    elif key == "location" and "://" in value:
        raise SourceFormatError(f"{its} is the path of a file, not an address")
    elif key == "caps":
        _caps(value, first=False)
    elif key in PATTERNS and PATTERNS[key][0].fullmatch(value) is None:
        raise SourceFormatError(f"{its} must be {PATTERNS[key][1]}")
    elif key in LARGEST and not (re.fullmatch(r"[0-9]{1,20}", value) and int(value) <= LARGEST[key]):
        raise SourceFormatError(f"{its} must be a whole number of at most {LARGEST[key]}")


def _check_address(its: str, value: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise SourceFormatError(f"{its} is no address") from None
    if parts.scheme.lower() not in schemes:
        raise SourceFormatError(
            f"{its} is of a kind that is not known", next_step=f"use {':, '.join(schemes)}:"
        )
    if parts.scheme.lower() == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise SourceFormatError(f"{its} is no file's", next_step="write file:///path")
    elif not parts.hostname:
        raise SourceFormatError(f"{its} names no host")
    words = (word for word in (parts.username, parts.password) if word is not None)
    if not all(word in _PLACEHOLDERS for word in words):
        raise SourceFormatError(
            f"{its} holds a user or a password",
            next_step="put it into [cameras.login]: username, and password_file or password_env",
        )


def _check_whole(name: str, properties: Mapping[str, str]) -> None:
    needed = REQUIRED.get(name)
    if needed is not None and not properties.get(needed):
        raise SourceFormatError(f"element {name!r} needs {needed}=...")
    limits = ("max-size-buffers", "max-size-bytes", "max-size-time")
    if name == "queue" and all(int(properties.get(key, "1")) == 0 for key in limits):
        raise SourceFormatError("element 'queue' has no limit", next_step="leave one of max-size-... above 0")
