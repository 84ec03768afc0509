"""The report of a bundle: how it was made, what each pass did, what it costs and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import ImageInput, Manifest
from edgeai.report.page import (
    Html,
    bar_chart,
    cards,
    dot_chart,
    fold,
    pairs,
    paragraph,
    side_by_side,
    table,
    write_page,
)

Row = Mapping[str, Any]
_FIGURES = ("value", "parameters", "macs", "bytes", "ms_p50")


def write_bundle_report(bundle: Bundle, path: Path) -> Path:
    """Write the page of a bundle's manifest to `path`. Raises EdgeError where it cannot be written.

    Provenance of another maker is shown as text: passes that lack our figures are left out of table and charts.
    """
    manifest = bundle.manifest
    rows = _pass_rows(manifest)
    control = manifest.provenance.get("control")
    shown = [*rows, control] if isinstance(control, dict) and rows and _has_figures(control) else rows
    says = str(control.get("says", "")) if isinstance(control, dict) else ""
    sections: list[tuple[str, Sequence[str]]] = [("In short", [_key_figures(manifest, rows)])]
    if rows:
        told = [paragraph(text) for text in (f"Control: {says}." if says else "", _zeros(manifest)) if text]
        sections.append(("Pass by pass", [_charts(shown), *told, _pass_table(shown)]))
    sections += [
        ("Files", [_files(manifest)]),
        ("What the device needs to know", [_contract(manifest)]),
        ("Data, licence, origin", _origin(manifest)),
    ]
    made = str(manifest.provenance.get("made_by", "an unknown maker"))
    return write_page(
        path,
        f"{manifest.name} {manifest.version}",
        sections,
        subtitle=f"{_task(manifest)} · {_labels(manifest.labels)}",
        footer=f"From the bundle's manifest, schema {manifest.schema_version}; made by {made}.",
    )


def _pass_rows(manifest: Manifest) -> list[Row]:
    passes = manifest.provenance.get("passes")
    if not isinstance(passes, list):
        return []
    return [row for row in passes if isinstance(row, dict) and _has_figures(row)]


def _zeros(manifest: Manifest) -> str:
    """What zeros among the weights bring, "" where nobody put any there."""
    notes = manifest.provenance.get("notes")
    told = notes.get("sparsity") if isinstance(notes, dict) else None
    if not isinstance(told, dict) or not _is_number(told.get("zeros")):
        return ""
    return f"Sparsity: {told['zeros']:.0%} of the weights are zero: {told.get('brings', '')}."


def _has_figures(row: Row) -> bool:
    return all(_is_number(row.get(key)) for key in _FIGURES)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15


def _key_figures(manifest: Manifest, rows: Sequence[Row]) -> Html:
    figures: list[tuple[str, str, str]] = []
    for measured in manifest.measured:
        if measured.ci95 is None:
            continue
        low, high = measured.ci95
        figures.append(
            (measured.metric, f"{measured.value:.3f}", f"95 %: {low:.3f} to {high:.3f}, n = {measured.n:,}")
        )
    smallest = min(manifest.engine_files, key=lambda entry: entry.bytes)
    figures.append(("smallest engine", _bytes(smallest.bytes), f"{smallest.format}/{smallest.precision}"))
    kept = [row for row in rows if row.get("kept", True)]
    if kept:
        first, last = kept[0], kept[-1]
        figures += [
            ("engine call", f"{last['ms_p50']:.2f} ms", "one thread, where it was made"),
            ("parameters", _count(last["parameters"]), f"{_count(first['parameters'])} before compression"),
            ("multiplications", _count(last["macs"]), f"{_count(first['macs'])} before compression"),
        ]
    return cards(figures)


def _charts(rows: Sequence[Row]) -> Html:
    names = [f"{number}. {row.get('pass', '?')}" for number, row in enumerate(rows, 1)]
    undone = {number for number, row in enumerate(rows) if not row.get("kept", True)}
    metric = str(rows[0].get("metric", "metric"))
    dots = [(name, float(row["value"]), _interval(row)) for name, row in zip(names, rows, strict=True)]
    sizes = [(name, row["bytes"]) for name, row in zip(names, rows, strict=True)]
    times = [(name, row["ms_p50"]) for name, row in zip(names, rows, strict=True)]
    return side_by_side(
        dot_chart(f"{metric} on held-out training data, 95 % interval", dots, muted=undone),
        bar_chart("Bytes of the engine", sizes, show=_bytes, muted=undone),
        bar_chart("Milliseconds a call, one thread, median", times, show="{:.2f}".format, muted=undone),
    )


def _interval(row: Row) -> tuple[float, float]:
    given = row.get("ci95")
    if isinstance(given, list) and len(given) == 2 and all(_is_number(end) for end in given):
        return float(given[0]), float(given[1])
    return float(row["value"]), float(row["value"])


def _pass_table(rows: Sequence[Row]) -> Html:
    cells = []
    for number, row in enumerate(rows, 1):
        low, high = _interval(row)
        cells.append(
            [
                f"{number}. {row.get('pass', '?')}",
                f"{row['value']:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:,.1f} M",
                f"{row['bytes']:,}",
                f"{row['ms_p50']:.2f}",
                str(row.get("engine", "")),
                f"{row['seconds']:,.0f} s" if _is_number(row.get("seconds")) else "-",
                _fate(row),
            ]
        )
    metric = str(rows[0].get("metric", "metric"))
    headings = [
        "pass",
        metric,
        "95 % interval",
        "parameters",
        "MACs",
        "bytes",
        "ms",
        "measured as",
        "took",
        "",
    ]
    return table(headings, cells, dimmed=[n for n, row in enumerate(rows) if not row.get("kept", True)])


def _fate(row: Row) -> str:
    if row.get("kept", True):
        return "for comparison" if row.get("pass") == "control" else "kept"
    return f"{'tried again' if row.get('tried_again') else 'undone'}: {row.get('reason', '')}"


def _files(manifest: Manifest) -> Html:
    return table(
        ["file", "engine", "bytes", "SHA-256"],
        [
            [
                entry.path,
                f"{entry.format}/{entry.precision}" if entry.format else "",
                f"{entry.bytes:,}",
                entry.sha256[:16] + "…",
            ]
            for entry in manifest.files
        ],
    )


def _contract(manifest: Manifest) -> Html:
    given = manifest.input
    rows: list[tuple[str, object]] = [("task", manifest.task)]
    if isinstance(given, ImageInput):
        rows += [
            (
                "picture",
                f"{given.width} × {given.height}, {given.colour}, {given.layout}, {given.resize} ({given.anchor})",
            ),
            ("scaling", f"(pixel − {_triple(given.mean)}) / {_triple(given.std)}"),
        ]
    else:
        rows += [
            (
                "features",
                f"{given.frames} frames of {given.mels} log-mel bands, {given.low_hz:g} to {given.high_hz:g} Hz",
            ),
            (
                "sound",
                (
                    f"{given.sample_rate_hz:,} Hz, window {given.window_samples}, hop {given.hop_samples}, "
                    f"FFT {given.fft_size} samples"
                ),
            ),
            (
                "scaling",
                f"(ln(energy + {given.floor:g}) − {given.offset:g}) / {given.scale:g}, clipped to −1..1",
            ),
        ]
    rows += [
        ("decoder", manifest.decoder.name),
        *((name, json.dumps(value)) for name, value in manifest.decoder.params.items()),
        ("labels", ", ".join(manifest.labels)),
    ]
    return pairs(rows)


def _origin(manifest: Manifest) -> list[str]:
    rows: list[tuple[str, object]] = [("licence", manifest.licence or "not told")]
    rows += [("attribution", line) for line in manifest.attribution]
    data = manifest.recipe.get("data")
    for source in data.get("train", []) if isinstance(data, dict) else []:
        if isinstance(source, dict):
            rest = ", ".join(f"{key} {value}" for key, value in source.items() if key != "kind")
            rows.append(("trained on", f"{source.get('kind', '?')}: {rest}"))
    for measured in manifest.measured:
        rows.append(
            (
                "measured",
                f"{measured.metric} {measured.value:.4f}: {measured.file}, {measured.data}, {measured.device}, {measured.date}",
            )
        )
    if "date" in manifest.provenance:
        rows.append(("made on", manifest.provenance["date"]))
    parts: list[str] = [pairs(rows)]
    if manifest.recipe:
        parts.append(fold("The recipe", json.dumps(manifest.recipe, indent=2, ensure_ascii=False)))
    else:
        parts.append(paragraph("The bundle holds no recipe."))
    return parts


def _task(manifest: Manifest) -> str:
    return {"detect": "finds objects", "keyword": "hears keywords"}.get(manifest.task, manifest.task)


def _labels(labels: Sequence[str]) -> str:
    return f"{len(labels)} labels" if len(labels) > 6 else ", ".join(labels)


def _triple(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _bytes(count: float) -> str:
    """As people read it: kB are 1,000 bytes."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"
