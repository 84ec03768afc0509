"""`edgeai outbox`: what waits for the broker, and its way on a USB stick."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path

from edgeai.cli.reports import OUTBOX_FILE, device_name, open_outbox
from edgeai.config import load_config
from edgeai.console import print_json, print_note, print_table, progress_bar
from edgeai.errors import SinkError, UsageError
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.carry import (
    export_messages,
    leave_acknowledgement,
    read_carry,
    read_receipt,
    write_receipt,
)
from edgeai.sinks.outbox.files import OutboxBusyError
from edgeai.sinks.outbox.message import DROP_ORDER, Draft
from edgeai.sinks.outbox.seal import Seal, load_seal
from edgeai.sinks.outbox.table import read_summary, reading
from edgeai.sinks.reporting import LINK_FILE, open_carrier


def show_status(path: Path, *, json_output: bool) -> int:
    """Raises OutboxError where there is no outbox yet, or it cannot be read."""
    config = load_config(path)
    outbox = config.state_dir / OUTBOX_FILE
    with reading(outbox) as db:
        lanes = read_summary(db)
    now_s = time.time()
    rows = [
        {
            "destination": lane.destination or "mqtt",
            "class": DROP_ORDER[lane.rank],
            "stream": lane.stream,
            "messages": count,
            "bytes": size,
            "oldest_s": round(max(0.0, now_s - oldest), 1),
        }
        for lane, count, size, oldest in lanes
    ]
    link: object = None
    with contextlib.suppress(OSError, ValueError):
        link = json.loads((config.state_dir / LINK_FILE).read_bytes()[:4096])
    if json_output:
        print_json(
            {"outbox": str(outbox), "waiting": sum(one[1] for one in lanes), "lanes": rows, "link": link}
        )
        return 0
    total = sum(one[2] for one in lanes)
    title = (
        f"{outbox}: {sum(one[1] for one in lanes)} messages, {total:,} of {config.outbox.max_bytes:,} bytes"
    )
    cells = [
        [
            r["destination"],
            r["class"],
            r["stream"],
            r["messages"],
            f"{r['bytes']:,}",
            _age(float(str(r["oldest_s"]))),
        ]
        for r in rows
    ]
    print_table(["for", "class", "stream", "messages", "bytes", "oldest"], cells, title=title)
    if isinstance(link, dict) and isinstance(link.get("spent"), dict):
        spent = ", ".join(f"{name} {count:,}" for name, count in link["spent"].items() if count)
        print_note(f"sent over the link today, bytes: {spent or 'none'}")
    return 0


def export_outbox(path: Path, target: Path, *, json_output: bool) -> int:
    """Raises OutboxError where nothing waits, DataError where the file cannot be written."""
    config = load_config(path)
    if target.exists():
        raise UsageError(f"{target} is there already", next_step="give another name, or remove it")
    export = export_messages(
        config.state_dir / OUTBOX_FILE, target, device=device_name(config), seal=_seal(config.outbox.key_file)
    )
    facts = {
        "file": str(target),
        "messages": export.count,
        "bytes": target.stat().st_size,
        "sha256": export.sha256,
    }
    if json_output:
        print_json(facts)
    else:
        print_note(
            f"{target}: {export.count} messages, {facts['bytes']:,} bytes; they stay here until "
            f"`edgeai outbox acknowledge {path} {target}.receipt.json`"
        )
    return 0


def import_carry(
    file: Path,
    *,
    config: Path | None,
    host: str | None,
    port: int,
    key_file: Path | None,
    seconds: float,
    json_output: bool,
) -> int:
    """Deliver, and write a receipt for what the broker has acknowledged; 1 where that is not all.

    Raises OutboxError for a file that is not whole, UsageError where no broker is named.
    """
    settings = _broker(config, host, port)
    export, messages = read_carry(file, seal=_seal(key_file))
    receipt = file.with_name(file.name + ".receipt.json")
    with tempfile.TemporaryDirectory(prefix="edgeai-carry-") as folder:
        outbox = Outbox(Path(folder) / OUTBOX_FILE, max_bytes=2 << 30, max_age_s=float("inf"))
        sink = open_carrier(settings, outbox)
        with sink, progress_bar("delivering", len(messages)) as advance:
            number_of: dict[int, int] = {}
            for start in range(0, len(messages), 1000):
                part = messages[start : start + 1000]
                drafts = [Draft(m.topic, m.payload, m.qos, m.retain, m.priority, m.stream) for m in part]
                for number, message in zip(outbox.put_many(drafts), part, strict=True):
                    number_of[number] = message.seq
            done = 0
            deadline_s = time.monotonic() + seconds
            while not sink.flush(0.2) and time.monotonic() < deadline_s:
                done = _advance(advance, done, len(messages) - outbox.pending)
            _advance(advance, done, len(messages) - outbox.pending)
            problem = sink.counters.problem
            left = {
                number_of[message.seq] for message in outbox.peek(len(messages)) if message.seq in number_of
            }
    delivered = [message.seq for message in messages if message.seq not in left]
    if delivered:
        write_receipt(receipt, export, delivered)
    facts = {"device": export.device, "delivered": len(delivered), "left": len(left), "receipt": str(receipt)}
    if json_output:
        print_json(facts)
    elif delivered:
        print_note(
            f"{len(delivered)} messages of {export.device} delivered; take {receipt} back to the device"
        )
    if left:
        raise SinkError(
            f"{len(left)} of {len(messages)} messages were not delivered: {problem or 'no acknowledgement'}",
            next_step="import it again: what arrives twice has the same id",
        )
    return 0


def acknowledge_receipt(path: Path, receipt: Path, *, json_output: bool) -> int:
    """Raises OutboxError for a receipt that is not of this outbox's exports."""
    config = load_config(path)
    where = config.state_dir / OUTBOX_FILE
    delivered = read_receipt(receipt, where)
    outbox = open_outbox(config)
    try:
        with outbox:
            count: int | None = outbox.ack(delivered)
    except OutboxBusyError:
        leave_acknowledgement(where, delivered)
        count = None
    if json_output:
        print_json({"receipt": str(receipt), "delivered": len(delivered), "deleted": count})
    elif count is None:
        print_note(f"{len(delivered)} messages have arrived; the running device deletes them within seconds")
    else:
        print_note(f"{count} messages deleted: they have arrived")
    return 0


def _advance(advance: object, done: int, now: int) -> int:
    if now > done and callable(advance):
        advance(now - done)
    return max(done, now)


def _broker(config: Path | None, host: str | None, port: int) -> MqttSettings:
    if (config is None) == (host is None):
        raise UsageError("name the broker: --host HOST, or --config FILE with [mqtt]")
    if host is not None:
        return MqttSettings(host=host, port=port)
    settings = load_config(Path(str(config))).mqtt
    if settings is None:
        raise UsageError(f"{config} has no [mqtt]", next_step="give --host")
    return settings


def _seal(key_file: Path | None) -> Seal | None:
    return None if key_file is None else load_seal(key_file)


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
