"""`edgeai-compress zoo-eval`: every model of the zoo measured again, and the tables that tell of it written or checked."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.cli.evaluate import Evaluated, cut, evaluate_engine
from compress.cli.worst import write_worst
from compress.measure.kept import FALSE_ACCEPTS, measured_fields
from compress.zoo.sheet import ZooModel, load_zoo
from compress.zoo.tables import (
    Figure,
    card_table,
    details_text,
    figures_of,
    marked,
    readme_table,
    with_marked,
)
from edgeai.bundle import load_bundle
from edgeai.bundle.manifest import Measured
from edgeai.bundle.schema import dump_manifest
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import DataError, DataMissingError
from edgeai.hardware import read_hardware
from edgeai.whole_file import write_whole

# other machines' kernels round in another order: a figure moves by an example or two, and of few examples that is much
MAY_DIFFER = 0.01
FEW = 100
# false accepts more or fewer than on the machine that wrote the manifest
MAY_ACCEPT = 1
FIGURES, DETAILS, ZOO = "figures", "details", "zoo"


@dataclass(frozen=True)
class _Measured:
    model: ZooModel
    made: tuple[Evaluated, ...]


def evaluate_zoo(
    models: Path,
    *,
    data_root: Path,
    readme: Path,
    out: Path,
    only: Sequence[str] = (),
    write: bool = False,
    json_output: bool = False,
) -> int:
    """Measure every engine file of the models and print a table. write: put the figures into manifests, cards and the
    README; without, exit code 1 where one of them says something else. Pictures of the worst examples go to `out`.

    Raises what evaluate_engine() raises, RecipeError and UsageError for the zoo's sheet, DataError for a text without marks.
    """
    zoo = load_zoo(models, tuple(only))
    _check_marks(zoo, readme)
    measured = [_measure(model, data_root, out) for model in zoo]
    if write:
        for one in measured:
            _write(one)
        _write_readme(models, readme)
    faults = [] if write else [fault for one in measured for fault in _faults(one)]
    if not write and not only:
        faults += _readme_faults(models, readme)
    if json_output:
        print_json(
            {
                "models": {one.model.name: [made.to_json() for made in one.made] for one in measured},
                "faults": faults,
            }
        )
    else:
        _print(measured)
        for fault in faults:
            print(fault)
    return 1 if faults else 0


def _check_marks(zoo: Sequence[ZooModel], readme: Path) -> None:
    """Raises DataError for a text that the figures have no place in, before minutes go into them."""
    for model in zoo:
        card = model.folder / "card.md"
        for mark in (FIGURES, DETAILS):
            marked(_read(card), mark, where=str(card))
    marked(_read(readme), ZOO, where=str(readme))


def _measure(model: ZooModel, data_root: Path, out: Path) -> _Measured:
    bundle = load_bundle(model.folder)
    folder = model.measure.folder(data_root, out / model.name)
    if not folder.is_dir():
        raise DataMissingError(
            f"{model.name} is measured on {folder}, which is not there", next_step="give --data"
        )
    entries = [entry for entry in bundle.manifest.files if entry.format in ("tflite", "onnx")]
    entries.sort(key=lambda entry: (entry.format, entry.precision) != ("tflite", "int8"))
    made: list[Evaluated] = []
    for entry in entries:
        # hours of it, and what the others say of the word itself is told against the first
        others = [] if made else [data_root / name for name in model.measure.others]
        print_note(f"{model.name}: {entry.path}")
        made.append(evaluate_engine(bundle, entry, folder, model.measure.split, iou=0.5, others=others))
    sheet = write_worst(made[0], folder, model.measure.split, out / model.name / "worst.jpg")
    if sheet is not None:
        print_note(f"{model.name}: the worst are drawn in {sheet}")
    return _Measured(model, tuple(made))


def _data_of(model: ZooModel) -> str:
    return f"{model.measure.data}/{model.measure.split}"


def _write(one: _Measured) -> None:
    """Into the manifest, whose files stay as they are, and into the card."""
    manifest, data = one.made[0].bundle.manifest, _data_of(one.model)
    device, date = read_hardware(ask_gpu=False).label, datetime.date.today().isoformat()
    new = [
        field
        for made in one.made
        for field in measured_fields(
            made.entry.path, made.metric, made.cost.ms_p50, data=data, device=device, date=date
        )
    ]
    told = {(field.metric, field.file, field.data) for field in new}
    kept = [old for old in manifest.measured if (old.metric, old.file, old.data) not in told]
    manifest = manifest.model_copy(update={"measured": (*kept, *new)})
    card = one.model.folder / "card.md"
    first = one.made[0]
    text = with_marked(_read(card), FIGURES, card_table(figures_of(manifest, data)), where=str(card))
    details = details_text(cut(first.scored), first.scored.mistakes(), first.scored.names, first.metric.name)
    text = with_marked(text, DETAILS, details, where=str(card))
    write_whole(one.model.folder / "manifest.json", dump_manifest(manifest))
    write_whole(card, text.encode())


def _faults(one: _Measured) -> list[str]:
    """Where the manifest has other figures than were measured, and the card others than the manifest."""
    manifest, data = one.made[0].bundle.manifest, _data_of(one.model)
    known = {figure.entry.path: figure for figure in figures_of(manifest, data)}
    found = []
    for made in one.made:
        figure = known.get(made.entry.path)
        if figure is None:
            found.append(
                f"{one.model.name}: {made.entry.path} was never measured on {data}: run it with --write"
            )
        elif abs(figure.metric.value - made.metric.value) > _may_differ(figure.metric):
            found.append(
                f"{one.model.name}: {made.entry.path} has {made.metric.name} {made.metric.value:.4f} on {data}, its manifest "
                f"says {figure.metric.value:.4f}"
            )
    found += _false_accept_faults(one, known)
    card = one.model.folder / "card.md"
    if known and marked(_read(card), FIGURES, where=str(card)) != card_table(list(known.values())):
        found.append(f"{card}: its table is not what the manifest has measured: run it with --write")
    return found


def _false_accept_faults(one: _Measured, known: dict[str, Figure]) -> list[str]:
    first = one.made[0]
    count, figure = first.metric.details.get(FALSE_ACCEPTS), known.get(first.entry.path)
    if count is None or figure is None or abs(count - (figure.false_accepts or 0)) <= MAY_ACCEPT:
        return []
    return [
        f"{one.model.name}: {first.entry.path} has {count} false accepts, its manifest says {figure.false_accepts}"
    ]


def _may_differ(known: Measured) -> float:
    """How far another machine's figure may be off: a part of what another draw of as many examples would move it by."""
    low, high = known.ci95 or (known.value, known.value)
    return max(MAY_DIFFER, (high - low) / (2 if known.n < FEW else 6))


def _zoo_rows(models: Path) -> list[tuple[str, str, list[Figure]]]:
    rows: list[tuple[str, str, list[Figure]]] = []
    for model in load_zoo(models):
        manifest = load_bundle(model.folder, verify=False).manifest
        if figures := figures_of(manifest, _data_of(model)):
            rows.append((model.name, manifest.task, figures))
    return rows


def _write_readme(models: Path, readme: Path) -> None:
    text = with_marked(_read(readme), ZOO, readme_table(_zoo_rows(models)), where=str(readme))
    write_whole(readme, text.encode())


def _readme_faults(models: Path, readme: Path) -> list[str]:
    if marked(_read(readme), ZOO, where=str(readme)) == readme_table(_zoo_rows(models)):
        return []
    return [f"{readme}: its table of models is not what the manifests have measured: run it with --write"]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _print(measured: Sequence[_Measured]) -> None:
    rows = [
        [
            one.model.name,
            made.engine,
            f"{made.metric.name} {made.metric.value:.3f} ({made.metric.ci95[0]:.3f}, {made.metric.ci95[1]:.3f})",
            made.metric.n,
            f"{made.cost.bytes:,}",
            f"{made.cost.ms_p50:.2f}",
        ]
        for one in measured
        for made in one.made
    ]
    print_table(["model", "engine", "metric", "n", "bytes", "ms"], rows)
