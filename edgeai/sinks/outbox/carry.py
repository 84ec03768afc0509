"""Store and carry: what waits goes onto a USB stick, and leaves the outbox only when the other end has it.

A carry file is gzip of JSON lines: a header, a line for each message, and an end with the count and the SHA-256 of all
lines before it. It is written whole or not at all, and believed whole or not at all.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeai.errors import OutboxError
from edgeai.sinks.outbox.message import RANK, Message
from edgeai.sinks.outbox.seal import Seal, SealError
from edgeai.sinks.outbox.table import read_messages, reading
from edgeai.sinks.payload import MAX_PAYLOAD_BYTES
from edgeai.types import new_event_id
from edgeai.whole_file import whole_file, write_whole

SCHEMA: Final = 1
MAX_MESSAGES: Final = 1_000_000
MAX_BYTES: Final = 1 << 30  # unpacked
_MAX_LINE_BYTES: Final = 2 * MAX_PAYLOAD_BYTES
_MAX_RECEIPT_BYTES: Final = 8 << 20
_MAX_KNOWN_EXPORTS: Final = 100
# what a carry file may hold: a stick from nowhere must not give commands with an office's rights
_TOPIC: Final = re.compile(
    r"edge/v1(/[^/+#\x00-\x1f\x7f]{1,128}){3}/(event|image|telemetry)/[^/+#\x00-\x1f\x7f]{1,128}(/thumbnail)?"
)


@dataclass(frozen=True, slots=True)
class Export:
    """A carry file: its hash, the device's name, how many messages."""

    sha256: str
    device: str
    count: int


def export_messages(outbox: Path, target: Path, *, device: str, seal: Seal | None = None) -> Export:
    """Copy what waits for the broker into a new file. The outbox may be in use, and keeps everything.

    Only the newest value of telemetry is worth something, and that the device sends again itself: it is left out. With
    `seal` payloads are encrypted in the file too. Raises OutboxError where nothing waits or it cannot be read,
    DataError where the file cannot be written.
    """
    digest = hashlib.sha256()
    seqs: list[int] = []
    with reading(outbox) as db, whole_file(target, what="carry file") as part:
        with gzip.open(part, "wb", compresslevel=6) as out:

            def write(value: dict[str, object]) -> None:
                line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                digest.update(line)
                out.write(line)

            write({"edgeai_carry": SCHEMA, "device": device, "sealed": seal is not None})
            for message in read_messages(db, seal):
                if message.destination == "" and not message.latest:
                    seqs.append(message.seq)
                    write(_to_json(message, seal))
            out.write(json.dumps({"end": len(seqs), "sha256": digest.hexdigest()}).encode() + b"\n")
        if not seqs:
            raise OutboxError(f"outbox {outbox}: nothing waits for the broker, so there is nothing to carry")
    _remember(outbox, digest.hexdigest(), seqs)
    return Export(digest.hexdigest(), device, len(seqs))


def read_carry(path: Path, *, seal: Seal | None = None) -> tuple[Export, list[Message]]:
    """A carry file, checked to its end. Raises OutboxError for one that is cut, changed, sealed with another key, or
    holds what no outbox of ours exports.
    """
    digest = hashlib.sha256()
    messages: list[Message] = []
    size = 0
    try:
        with gzip.open(path, "rb") as file:
            header = _line(digest, first := file.readline(_MAX_LINE_BYTES))
            if header.get("edgeai_carry") != SCHEMA or not isinstance(header.get("device"), str):
                raise OutboxError(f"{path} is no carry file of schema {SCHEMA}")
            size += len(first)
            if header.get("sealed") and seal is None:
                raise OutboxError(f"{path} is encrypted", next_step="give the device's key: --key-file")
            while True:
                expected = digest.hexdigest()
                raw = file.readline(_MAX_LINE_BYTES)
                value = _line(digest, raw)
                size += len(raw)
                if "end" in value:
                    if value["end"] != len(messages) or value.get("sha256") != expected or file.read(1):
                        raise OutboxError(f"{path}: its end does not fit the rest")
                    return Export(expected, str(header["device"]), len(messages)), messages
                if len(messages) >= MAX_MESSAGES or size > MAX_BYTES:
                    raise OutboxError(f"{path} is larger than any carry file")
                messages.append(_from_json(value, seal if header.get("sealed") else None))
    except FileNotFoundError:
        raise OutboxError(f"no carry file at {path}") from None
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        zlib.error,
        SealError,
        RecursionError,
    ) as error:
        if isinstance(error, OutboxError):
            raise
        raise OutboxError(
            f"{path} cannot be used: {str(error) or 'it is cut'}", next_step="export it again from the device"
        ) from None


def write_receipt(path: Path, export: Export, delivered: Iterable[int]) -> Path:
    """What the other end has, for the device. Raises DataError."""
    ranges = _ranges(sorted(delivered))
    receipt = {
        "edgeai_receipt": SCHEMA,
        "export": export.sha256,
        "device": export.device,
        "delivered": ranges,
    }
    return write_whole(path, json.dumps(receipt) + "\n")


def read_receipt(path: Path, outbox: Path) -> set[int]:
    """The numbers that a receipt says were delivered, of those that this outbox exported. Raises OutboxError."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_RECEIPT_BYTES + 1)
        receipt = json.loads(raw) if len(raw) <= _MAX_RECEIPT_BYTES else None
        if not isinstance(receipt, dict) or receipt.get("edgeai_receipt") != SCHEMA:
            raise OutboxError(f"{path} is no receipt of schema {SCHEMA}")
        exported = _known(outbox).get(str(receipt.get("export")))
        if exported is None:
            raise OutboxError(
                f"{path} is for an export that this outbox does not know",
                next_step="check that the stick and the configuration are of the same device",
            )
        delivered = _numbers(receipt["delivered"], within=exported)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OutboxError):
            raise
        raise OutboxError(f"{path} cannot be used: {getattr(error, 'strerror', None) or error}") from None
    return delivered


def leave_acknowledgement(outbox: Path, seqs: Iterable[int]) -> Path:
    """For the process that has the outbox: it deletes them within seconds. Raises DataError."""
    return write_whole(_left(outbox, new_event_id()), json.dumps(_ranges(sorted(seqs))))


def take_acknowledgements(outbox: Path) -> set[int]:
    """Numbers left by leave_acknowledgement, whose files are removed; what cannot be read is left alone."""
    seqs: set[int] = set()
    for file in _left(outbox, "*").parent.glob(_left(outbox, "*").name):
        with contextlib.suppress(OSError, ValueError, TypeError):
            ranges = json.loads(file.read_bytes()[:_MAX_RECEIPT_BYTES])
            found = _numbers(ranges, within=[(1, 1 << 62)])
            file.unlink()
            seqs |= found
    return seqs


def _left(outbox: Path, name: str) -> Path:
    return outbox.with_name(f"{outbox.name}.acknowledged-{name}.json")


def _exports(outbox: Path) -> Path:
    return outbox.with_name(f"{outbox.name}.exports.json")


def _known(outbox: Path) -> dict[str, list[tuple[int, int]]]:
    """Hash of each export of this outbox -> the ranges of its numbers."""
    try:
        value = json.loads(_exports(outbox).read_bytes()[:_MAX_RECEIPT_BYTES])
        return {str(key): [(int(a), int(b)) for a, b in ranges] for key, ranges in value.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(outbox: Path, sha256: str, seqs: Sequence[int]) -> None:
    known: dict[str, Any] = {**_known(outbox), sha256: _ranges(seqs)}
    write_whole(_exports(outbox), json.dumps(dict(list(known.items())[-_MAX_KNOWN_EXPORTS:])))


def _ranges(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each run.

    >>> _ranges([1, 2, 3, 7])
    [(1, 3), (7, 7)]
    """
    ranges: list[tuple[int, int]] = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return ranges


def _numbers(ranges: Any, *, within: Sequence[tuple[int, int]]) -> set[int]:
    found: set[int] = set()
    for first, last in ranges:
        low, high = int(first), int(last)
        for a, b in within:
            begin, end = max(low, a), min(high, b)
            if end - begin > MAX_MESSAGES or len(found) > MAX_MESSAGES:
                raise ValueError("more messages than any carry file holds")
            found.update(range(begin, end + 1))
    return found


def _line(digest: Any, raw: bytes) -> dict[str, Any]:
    if not raw.endswith(b"\n"):
        raise ValueError("it is cut, or a line is too long")
    digest.update(raw)
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("a line is no JSON object")  # noqa: TRY004 (the file is wrong, no caller)
    return value


def _to_json(message: Message, seal: Seal | None) -> dict[str, object]:
    payload = message.payload
    if seal is not None:
        payload = seal.seal(payload, _context(message.seq, message.topic))
    return {
        "seq": message.seq,
        "topic": message.topic,
        "payload": base64.b64encode(payload).decode(),
        "qos": message.qos,
        "retain": message.retain,
        "priority": message.priority,
        "stream": message.stream,
        "wall_s": message.wall_s,
    }


def _from_json(value: dict[str, Any], seal: Seal | None) -> Message:
    seq, topic, priority, stream = value["seq"], value["topic"], value["priority"], value["stream"]
    if not (isinstance(topic, str) and _TOPIC.fullmatch(topic)):
        raise ValueError(f"topic {str(topic)[:80]!r} is none of a device's reports")
    if type(seq) is not int or seq < 1 or priority not in RANK or not isinstance(stream, str):
        raise ValueError(f"message {str(seq)[:20]} is damaged")
    try:
        payload = base64.b64decode(value["payload"], validate=True)
    except (binascii.Error, TypeError):
        raise ValueError(f"message {seq} is damaged") from None
    if seal is not None:
        payload = seal.open(payload, _context(seq, topic))
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"message {seq} is larger than any of ours")
    qos = 1 if value.get("qos") else 0
    return Message(
        seq, topic, payload, qos, value.get("retain") is True, priority, stream, float(value["wall_s"]), 0.0
    )


def _context(seq: int, topic: str) -> bytes:
    return f"carry {seq} {topic}".encode()


__all__ = [
    "Export",
    "export_messages",
    "leave_acknowledgement",
    "read_carry",
    "read_receipt",
    "take_acknowledgements",
    "write_receipt",
]
