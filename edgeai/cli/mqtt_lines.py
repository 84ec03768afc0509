"""How `edgeai mqtt watch` shows messages: a line each, cut to the terminal, every control character made visible."""

from __future__ import annotations

import json
import math
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final

from edgeai.console import print_note, print_table
from edgeai.metrics import summarize
from edgeai.sinks.watch.counts import Counts, Row
from edgeai.sinks.watch.messages import Sighting
from edgeai.types import JsonValue

if TYPE_CHECKING:
    from rich.console import Console

PIPE_COLUMNS: Final = 80
MAX_TEXT: Final = 2000

# what tells most, in this order, without its key; then the rest as key=value
_TELLING: Final = ("rule", "direction", "label", "keyword", "state", "reason", "result")
_QUIET: Final = frozenset({"box", "boot_id"})


def visible(text: str) -> str:
    r"""Text with nothing in it that a terminal obeys or hides: control, format and line-separating characters escaped.

    >>> print(visible("a\x1b[2J\u202eb"))
    a\x1b[2J\u202eb
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text[:MAX_TEXT]
    )


def telling(data: dict[str, JsonValue]) -> str:
    """The fields of an event in one line: names and directions first, then numbers, then what is nested, not yet
    escaped.
    """
    first = [str(data[key]) for key in _TELLING if isinstance(data.get(key), (str, int, float))]
    flat, nested = [], []
    for key, value in data.items():
        if key in _TELLING and isinstance(value, (str, int, float)):
            continue
        if key in _QUIET:
            continue
        if isinstance(value, (dict, list)):
            nested.append(f"{key}={json.dumps(value, ensure_ascii=False)[:200]}")
        else:
            flat.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return " ".join([*first, *flat, *nested])


class Lines:
    """Writes to standard output, flushed line by line; a closed pipe raises BrokenPipeError."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output
        self._console: Console | None = None
        if not json_output and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console(highlight=False, markup=False, emoji=False)

    def show(self, sighting: Sighting, *, saved: str = "") -> None:
        """One message. saved: the file that its picture is in."""
        if self._json:
            text = json_line(sighting, saved=saved)
        elif self._console is not None:
            text = self._coloured(sighting, saved, self._console)
        else:
            text = _cut("".join(part for part, _ in _parts(sighting, saved, PIPE_COLUMNS)), PIPE_COLUMNS)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    @staticmethod
    def _coloured(sighting: Sighting, saved: str, console: Console) -> str:
        from rich.text import Text

        columns = shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns
        text = Text.assemble(*_parts(sighting, saved, columns), no_wrap=True, overflow="ellipsis")
        text.truncate(columns, overflow="ellipsis")
        with console.capture() as captured:  # written by us: rich would end the program at a closed pipe
            console.print(text, soft_wrap=True, end="")
        return captured.get()


def _parts(sighting: Sighting, saved: str, columns: int) -> list[tuple[str, str]]:
    """Texts and their styles; the fields in the middle are cut so that latency and marks at the end are seen."""
    from rich.cells import cell_len

    at = datetime.fromtimestamp(sighting.arrived_s).astimezone()
    where = "/".join(part for part in (sighting.device, sighting.stream) if part) or sighting.topic
    what = sighting.type or sighting.kind
    if sighting.kind not in ("event", "telemetry", "image", "other") and sighting.kind != what:
        what = f"{sighting.kind} {what}"
    if sighting.problem:
        what = sighting.kind
        fields = f"{sighting.problem}: {sighting.sample.decode(errors='backslashreplace')}"
    elif sighting.picture:
        fields = f"{sighting.size_bytes} bytes" + (f" -> {saved}" if saved else "")
    elif sighting.sample:
        fields = sighting.sample.decode(errors="backslashreplace")
    else:
        # the state is the type already
        skipped = "state" if sighting.kind == "state" else ""
        fields = telling({key: value for key, value in sighting.data.items() if key != skipped})
    end = "".join(f" {each}" for each in (_latency(sighting), ", ".join(sighting.marks)) if each)
    head = [(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d} ", "dim"), (f"{visible(where)} ", "cyan")]
    head.append((visible(what), "red" if sighting.problem else "bold"))
    end = _cut(visible(end), columns // 2)
    left = columns - cell_len(end) - sum(cell_len(text) for text, _ in head)
    middle = _cut(" " + visible(fields), max(0, left)) if fields else ""
    return [
        *head,
        (middle, "red" if sighting.problem else ""),
        (end, "yellow" if sighting.marks else "green"),
    ]


def _latency(sighting: Sighting) -> str:
    """Empty where there is none to tell: the device calls its clock wrong."""
    if sighting.latency_s is None or sighting.clock_synced is False:
        return ""
    return f"{'' if sighting.clock_synced else '~'}{_duration(sighting.latency_s)}"


def _duration(seconds: float) -> str:
    """Three digits or so: "12 ms", "1.5 s", "310 s"."""
    if abs(seconds) < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if abs(seconds) < 100 else f"{seconds:.0f} s"


def _cut(text: str, columns: int) -> str:
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= columns:
        return text
    return set_cell_size(text, columns - 1).rstrip() + "…" if columns > 0 else ""


def json_line(sighting: Sighting, *, saved: str = "") -> str:
    """A message as JSON in ASCII: nothing in it that a terminal obeys, and any pipe takes it. NaN and infinities, which
    are no JSON, become null.
    """
    told = sighting_json(sighting, saved=saved)
    try:
        text = json.dumps(told, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(told))
    return text.replace("\x7f", "\\u007f")


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list) else value


def sighting_json(sighting: Sighting, *, saved: str = "") -> dict[str, JsonValue]:
    """What --json prints for a message."""
    told: dict[str, JsonValue] = {
        "class": sighting.kind,
        "topic": sighting.topic,
        "device": sighting.device,
        "stream": sighting.stream,
        "type": sighting.type,
        "arrived_s": round(sighting.arrived_s, 3),
        "bytes": sighting.size_bytes,
        "latency_ms": None if sighting.latency_s is None else round(sighting.latency_s * 1e3, 1),
        "clock_synced": sighting.clock_synced,
        "marks": list(sighting.marks),
    }
    if sighting.problem:
        told["problem"] = sighting.problem
    if sighting.sample:
        told["sample"] = sighting.sample.decode(errors="backslashreplace")
    if saved:
        told["saved"] = saved
    if sighting.envelope:
        told["event"] = sighting.envelope
    elif not sighting.picture and not sighting.sample:
        told["data"] = sighting.data
    return told


def summary_json(counts: Counts) -> dict[str, JsonValue]:
    """The end of --json: streams and devices with what was doubled, late and not seen."""
    streams: list[JsonValue] = []
    for row in counts.rows:
        latency = (
            summarize("latency_ms", "ms", [1e3 * each for each in row.latencies_s])
            if row.latencies_s
            else None
        )
        streams.append(
            {
                "device": row.device,
                "stream": row.stream,
                "events": row.events,
                "duplicates": row.duplicates,
                "late": row.late,
                "missing": row.missing,
                "malformed": row.wrong,
                "rate_hz": None if row.rate_hz is None else round(row.rate_hz, 3),
                "latency": latency.to_json() if latency else None,
                "clock_unsure": row.unsure,
            }
        )
    devices: list[JsonValue] = [
        {
            "device": each.device,
            "boot_id": each.boot_id,
            "lowest_seq": each.lowest,
            "highest_seq": each.highest,
            "unseen": each.unseen,
            "exact": each.exact,
        }
        for each in counts.devices
    ]
    return {"messages": counts.messages, "streams": streams, "devices": devices}


def tell_summary(counts: Counts) -> None:
    """The table at the end, on standard error, and what the numbers that did not come may mean."""
    rows = counts.rows
    if not rows:
        print_note(f"{counts.messages} messages, no events among them")
        return
    # columns that say nothing here leave their place to the names
    columns = ["device/stream", "events", "dup", "late", "per s", "p50/p90/p99"]
    if any(row.missing is not None for row in rows):
        columns.insert(4, "lost")
    if any(row.wrong for row in rows):
        columns.insert(-2, "bad")
    print_table(columns, [[_cells(row)[name] for name in columns] for row in rows], to_stderr=True)
    # where streams have counters of their own, "missing" says it better
    told = {row.device for row in rows if row.missing is not None}
    unseen = [each for each in counts.devices if each.unseen and each.device not in told]
    for each in unseen[:20]:
        about = "" if each.exact else "at most "
        print_note(
            f"{visible(each.device)}: {about}{each.unseen} of the numbers {each.lowest} to {each.highest} did not come"
        )
    if unseen:
        print_note(
            "a device numbers all that it sends: those may be lost, or readings that newer ones replaced, or sent elsewhere"
        )
    if any(row.unsure for row in rows):
        print_note("~: the device does not know whether its clock is right")


def _cells(row: Row) -> dict[str, str]:
    return {
        "device/stream": visible(f"{row.device}/{row.stream}" if row.stream else row.device),
        "events": str(row.events),
        "dup": str(row.duplicates),
        "late": str(row.late),
        "lost": "" if row.missing is None else str(row.missing),
        "bad": str(row.wrong),
        "per s": "" if row.rate_hz is None else f"{row.rate_hz:.2f}",
        "p50/p90/p99": _percentiles(row),
    }


def _percentiles(row: Row) -> str:
    if not row.latencies_s:
        return ""
    found = summarize("latency", "s", list(row.latencies_s))
    three = (found.p50, found.p90, found.p99)
    if max(map(abs, three)) < 9.9995:
        text = "/".join(f"{each * 1e3:.0f}" for each in three) + " ms"
    else:
        text = "/".join(f"{each:.1f}" if abs(each) < 100 else f"{each:.0f}" for each in three) + " s"
    return ("~" if row.unsure else "") + text
