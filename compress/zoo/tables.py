"""Tables of cards and of the README, made of what manifests have measured, and kept between two marks in a text.

Everything else in such a text is written by people and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compress.measure.false_accepts import false_accepts_text
from compress.measure.kept import CALL, FALSE_ACCEPTS, HOURS, other_sound
from compress.measure.scored import Mistake
from compress.measure.slices import MIN_TO_JUDGE, SliceMetric
from compress.report.worst import SHOWN
from edgeai.bundle.manifest import FileEntry, Manifest, Measured
from edgeai.errors import DataError


@dataclass(frozen=True, slots=True)
class Figure:
    """An engine file and what was measured of it: the task's metric on a split, and the milliseconds of a call.

    false_accepts: of a wake word, in so many hours of other sound.
    """

    entry: FileEntry
    metric: Measured
    ms: Measured
    false_accepts: int | None = None
    hours: float = 0.0

    @property
    def engine(self) -> str:
        return f"{self.entry.format}/{self.entry.precision}"


def figures_of(manifest: Manifest, data: str) -> list[Figure]:
    """What the manifest has measured on `data`, "folder/split", in the order of its files; int8 TFLite first."""
    metrics = {one.file: one for one in manifest.measured if one.data == data}
    calls = {one.file: one for one in manifest.measured if one.data == CALL and one.metric == "ms_p50"}
    heard = {(one.file, one.metric): one.value for one in manifest.measured if one.data == other_sound(data)}

    def false_accepts(path: str) -> tuple[int | None, float]:
        count = heard.get((path, FALSE_ACCEPTS))
        return None if count is None else int(count), heard.get((path, HOURS), 0.0)

    found = [
        Figure(entry, metrics[entry.path], calls[entry.path], *false_accepts(entry.path))
        for entry in manifest.files
        if entry.path in metrics and entry.path in calls
    ]
    return sorted(found, key=lambda figure: figure.engine != "tflite/int8")


def card_table(figures: Sequence[Figure]) -> str:
    """Markdown: a row for each engine file."""
    first = figures[0]
    rows = [
        (
            figure.engine,
            _value_text(figure.metric.value, figure.metric.ci95),
            f"{figure.entry.bytes:,}",
            f"{figure.ms.value:.2f}",
        )
        for figure in figures
    ]
    head = ("engine file", f"{first.metric.metric}, {first.metric.data} (95 %)", "bytes", "ms")
    note = (
        f"n = {first.metric.n:,}; ms: the engine call alone, one thread, median, {first.ms.device}, {first.ms.date}. "
        "Measured by `make zoo-eval`."
    )
    if first.false_accepts is not None:
        note = f"{false_accepts_text(first.false_accepts, first.hours)} ({first.engine}). {note}"
    return f"{markdown_table(head, rows)}\n\n{note}"


def details_text(
    slices: Iterable[SliceMetric], mistakes: Sequence[Mistake], names: Sequence[str], metric: str
) -> str:
    """Markdown: the weakest slice of each kind that is large enough to judge, each kind of anomaly, and the worst examples by
    name.
    """
    weakest: dict[tuple[str, str], SliceMetric] = {}
    for part in slices:
        key = (part.kind, part.name if part.kind == "anomaly" else "")
        if part.n >= MIN_TO_JUDGE and (key not in weakest or part.value < weakest[key].value):
            weakest[key] = part
    rows = [
        (
            f"{part.kind}: {part.name}",
            _value_text(part.value, part.ci95),
            f"{part.n} {part.unit}",
        )
        for part in weakest.values()
    ]
    text = ["**Where it is weakest**, int8 TFLite, by each way to cut the test split:", ""]
    text.append(
        markdown_table(("slice", f"{metric} (95 %)", "n"), rows)
        if rows
        else "no slice is large enough to judge."
    )
    if mistakes:
        shown = mistakes[:SHOWN]
        text += [
            "",
            f"**The worst {len(shown)}** of {len(mistakes)} that went wrong; `make zoo-eval` draws them:",
            "",
        ]
        text += [f"- `{names[one.index]}`: {one.text}" for one in shown]
    return "\n".join(text)


def readme_table(rows: Sequence[tuple[str, str, Sequence[Figure]]]) -> str:
    """Markdown: a row for each model, by its folder's name and its task, of its first figure."""
    cells = [
        (
            f"[{name}](models/{name})",
            task,
            f"{figures[0].entry.bytes:,} bytes, {figures[0].ms.value:.2f} ms",
            f"{figures[0].metric.metric} {_value_text(figures[0].metric.value, figures[0].metric.ci95)}",
            f"[card](models/{name}/card.md)",
        )
        for name, task, figures in rows
    ]
    return markdown_table(("model", "task", "int8 TFLite", "on the test split", "card"), cells)


def _value_text(value: float, ci95: tuple[float, float] | None) -> str:
    low, high = ci95 or (value, value)
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def marked(text: str, mark: str, *, where: str) -> str:
    """What stands between the marks called `mark` in `text`. Raises DataError where they do not stand there once."""
    start, end = _marks(text, mark, where)
    return text[start:end].strip("\n")


def with_marked(text: str, mark: str, content: str, *, where: str) -> str:
    """`text` with `content` between the marks. Raises DataError as marked() does."""
    start, end = _marks(text, mark, where)
    return f"{text[:start]}\n{content}\n{text[end:]}"


def _marks(text: str, mark: str, where: str) -> tuple[int, int]:
    opening, closing = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if text.count(opening) != 1 or text.count(closing) != 1 or text.index(opening) > text.index(closing):
        raise DataError(f"{where} needs the line {opening} once, and {closing} after it")
    return text.index(opening) + len(opening), text.index(closing)
