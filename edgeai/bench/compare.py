"""Two runs of a bench side by side: the same machine on two days, or two machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeai.bench.statistics import MIN_BLOCKS, Ratio, unpaired_ratio
from edgeai.errors import EdgeError, UsageError
from edgeai.report.tables import Table
from edgeai.types import JsonValue

MAX_FILE_BYTES = 16 << 20
_MAX_ROWS = 10_000
_MOST_WARNINGS = 5
# said of a single value: it has no spread, so nothing may be concluded from it
_ONCE = "once"
# facts of a device that make two runs incomparable, and what people call them
_FACTS = {"board": "board", "cpu": "processor", "cpu_cores": "cores", "arch": "architecture", "l4t": "L4T"}
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Row(_Part):
    name: Annotated[str, Field(min_length=1, max_length=300)]
    unit: Annotated[str, Field(max_length=40)] = ""
    n: Annotated[int, Field(ge=0)] = 0
    p50: _Number | None = None
    p90: _Number | None = None
    value: _Number | None = None

    @property
    def middle(self) -> float | None:
        return self.value if self.value is not None else self.p50


class _Engine(_Part):
    label: Annotated[str, Field(max_length=100)]
    block_ms: Annotated[tuple[Annotated[float, Field(ge=1e-6, le=1e9)], ...], Field(max_length=10_000)] = ()


class _Bundle(_Part):
    name: str = ""
    model: str = ""


class BenchFile(_Part):
    """What is read of a bench's JSON; the rest of it is ignored."""

    bench: str
    device: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, Any] = Field(default_factory=dict)
    results: Annotated[tuple[_Row, ...], Field(max_length=_MAX_ROWS)]
    engines: Annotated[tuple[_Engine, ...], Field(max_length=_MAX_ROWS)] = ()
    bundle: _Bundle | None = None
    warnings: Annotated[tuple[str, ...], Field(max_length=_MAX_ROWS)] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both runs. ratio: now over before, None where it has no sense. said: "slower", "within the spread", …"""

    name: str
    unit: str
    before: float
    now: float
    ratio: Ratio | None
    said: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """rows: the figures that both have. warnings: what else differs between them."""

    rows: tuple[Compared, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "warnings": list(self.warnings),
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "before": row.before,
                    "now": row.now,
                    "ratio": None if row.ratio is None else row.ratio.to_json(),
                    "said": row.said,
                }
                for row in self.rows
            ],
        }

    def table(self) -> Table:
        """Of the figures that have a spread; single values are in the JSON. A bundle's name that all share is in the title."""
        shown = [row for row in self.rows if row.said != _ONCE] or list(self.rows)
        stems = {row.name.partition("/")[0] if "/" in row.name else None for row in shown} - {None}
        stem = f"{stems.pop()}/" if len(stems) == 1 else ""
        rows = []
        for row in shown:
            interval = "-"
            if row.ratio is not None and row.ratio.low != row.ratio.high:
                interval = f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
            ratio = "-" if row.ratio is None else f"{row.ratio.value:.2f}"
            name = row.name.removeprefix(stem)
            rows.append([name, f"{row.before:.4g}", f"{row.now:.4g}", ratio, interval, row.said])
        title = f"{stem.rstrip('/')}: now over before, with its 95 % interval".removeprefix(": ")
        return Table(title, ["figure", "before", "now", "ratio", "interval", "now is"], rows)


def read_bench_file(path: Path) -> BenchFile:
    """The JSON that a bench printed. Raises EdgeError for a file that is absent, too large or no such JSON."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise EdgeError(f"{path}: cannot be read ({why})", next_step="make it with --json") from None
    if len(content) > MAX_FILE_BYTES:
        raise EdgeError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB, no bench prints so much")
    try:
        return parse_bench(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise EdgeError(
            f"{path}: no bench's JSON ({_why(error)})", next_step="make it with `edgeai bench ... --json`"
        ) from None


def parse_bench(value: object) -> BenchFile:
    """A bench's object. Raises pydantic's ValidationError, a ValueError."""
    return BenchFile.model_validate(value)


def compare(before: BenchFile, now: BenchFile) -> Comparison:
    """The figures that both have, in the order of `now`.

    Latencies whose runs kept their blocks have an interval and a spread from those (`unpaired_ratio`); other percentiles have
    the distance of p90 to p50 as their spread; single values have none. "faster", "slower", "more" and "less" are said only
    where the difference is larger than the spread.

    Raises UsageError where they are of different benches or have no figure in common.
    """
    if before.bench != now.bench:
        raise UsageError(
            f"cannot compare with a file of `edgeai bench {before.bench[:40]}`, this is `edgeai bench {now.bench}`"
        )
    earlier = {row.name: row for row in before.results}
    rows = tuple(
        compared
        for row in now.results
        if row.name in earlier and (compared := _compared(earlier[row.name], row, before, now)) is not None
    )
    if not rows:
        raise UsageError(
            "the file to compare with has no figure in common with this run",
            next_step="is it of another bundle?",
        )
    return Comparison(rows, tuple(_differences(before, now)))


def _compared(old: _Row, new: _Row, before: BenchFile, now: BenchFile) -> Compared | None:
    was, is_now = old.middle, new.middle
    if was is None or is_now is None or old.unit != new.unit:
        return None
    ratio = None
    if was > 0 and is_now > 0:
        old_blocks, new_blocks = _blocks(before, old.name), _blocks(now, new.name)
        if min(len(old_blocks), len(new_blocks)) >= MIN_BLOCKS:
            ratio = unpaired_ratio(old_blocks, new_blocks)
        else:
            value = is_now / was
            ratio = Ratio(value, value, value, math.hypot(_tail(old), _tail(new)))
        if not math.isfinite(ratio.value) or not math.isfinite(ratio.spread):
            ratio = None
    return Compared(new.name, new.unit, was, is_now, ratio, _said(old, new, ratio))


def _said(old: _Row, new: _Row, ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    if old.value is not None or new.value is not None:
        return _ONCE
    if not ratio.told_apart:
        return "no winner"
    more, less = ("slower", "faster") if new.unit in ("ms", "us", "s") else ("more", "less")
    return more if ratio.value > 1 else less


def _blocks(report: BenchFile, name: str) -> tuple[float, ...]:
    return next((each.block_ms for each in report.engines if name.endswith(f"/{each.label}_ms")), ())


def _tail(row: _Row) -> float:
    if row.p50 is None or row.p90 is None or row.p50 <= 0:
        return 0.0
    return max(0.0, row.p90 / row.p50 - 1)


def _differences(before: BenchFile, now: BenchFile) -> list[str]:
    told = [
        f"the {word} differs: {_short(before.device.get(key))} before, {_short(now.device.get(key))} now"
        for key, word in _FACTS.items()
        if before.device.get(key) != now.device.get(key)
    ]
    told += [f"of the earlier run: {_short(line, 200)}" for line in before.warnings[:_MOST_WARNINGS]]
    changed = _changed(before.versions, now.versions)
    if changed:
        told.append(f"versions differ: {', '.join(changed)}")
    if before.bundle and now.bundle and before.bundle.model != now.bundle.model:
        told.append("the bundle's engine files differ")
    return told


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {_short(before.get(name))} before, {_short(now[name])} now"
        for name in now
        if before.get(name) != now[name]
    ]


def _short(value: object, most: int = 60) -> str:
    text = "none" if value in (None, "") else " ".join(str(value).split())
    return text[:most]


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return " ".join(str(error).split())[:120]
