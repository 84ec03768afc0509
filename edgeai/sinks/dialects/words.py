"""Names and numbers of ours as other vocabularies can carry them: topic levels, ids, Jinja literals."""

from __future__ import annotations

import hashlib
import math
import re

from edgeai.sinks.topics import MAX_LEVEL_BYTES

_NO_LEVEL = re.compile(r"[/+#\x00-\x1f\x7f-\x9f]")
# what Home Assistant takes in a discovery topic; "__" joins parts, so that no part may hold or touch one
_PLAIN_ID = re.compile(r"[A-Za-z0-9](?:_?[A-Za-z0-9-])*")
_MAX_ID = 64


def topic_level(text: str) -> str:
    """A label or keyword as one level of a topic: what no level can hold becomes "_".

    >>> topic_level("on/off"), topic_level("traffic light")
    ('on_off', 'traffic light')
    """
    cut = _NO_LEVEL.sub("_", text).strip().encode("utf-8", "replace")[:MAX_LEVEL_BYTES]
    level = cut.decode("utf-8", "ignore").strip()
    return level if level and not level.startswith("$") else f"_{level[1:]}"


def plain_id(text: str) -> str:
    """`text` itself where it is plain (letters, digits, "-", single "_" within), else what is plain of it and a hash,
    so that "front door" and "front.door" have ids of their own.

    >>> plain_id("front_door")
    'front_door'
    >>> plain_id("front door")
    'front_door-7279998f'
    """
    if _PLAIN_ID.fullmatch(text) and len(text) <= _MAX_ID:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_-")[:_MAX_ID].rstrip("_-")
    return f"{stem}-{digest}" if stem else digest


def jinja_text(text: str) -> str:
    r"""A string literal of Jinja, which reads the escapes of Python's. Only letters, digits and a few signs stay as
    they are, so that nothing in a name can end the literal or the expression.

    >>> jinja_text("it's {{ x }}")
    "'it\\x27s \\x7b\\x7b x \\x7d\\x7d'"
    """
    return "'" + "".join(sign if _is_harmless(sign) else _escaped(sign) for sign in text) + "'"


def _is_harmless(sign: str) -> bool:
    return sign.isascii() and (sign.isalnum() or sign in " ._-:,")


def _escaped(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def numeral(value: object, default: float = 0.0) -> float:
    """`value` where it is a finite number, else `default`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return float(value)
