"""Opening a teacher: a bundle, a Keras model, an ONNX or TFLite file, tried on two examples before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.distill.teacher_network import (
    LEAST_FLOAT,
    LEAST_STORED,
    FileTeacher,
    InputRule,
    KerasTeacher,
    OutputRule,
    Rules,
    TeacherNetwork,
    file_fingerprint,
)
from compress.networks.bundle_network import NETWORK_NAME
from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import DataMissingError, EdgeError, RecipeError

Spec = ImageInput | LogMelInput
Shapes = Mapping[str, tuple[int, ...]]
FILE_KINDS = (".keras", ".onnx", ".tflite")
# the student's outputs that are logits of exclusive classes, so that probabilities in their place can be told
EXCLUSIVE = ("class", "keyword", "symbols")
# the best figures first: a teacher need not be small
_PRECISIONS = ("float32", "float16", "int16x8", "dynamic", "int8", "int4")
_OTHER = "take a teacher of the same labels and grid, or let it label the data"


def open_teacher_network(
    source: Any,
    *,
    spec: Spec,
    outputs: Shapes,
    labels: Sequence[str] | None = None,
    data_root: Path | None = None,
) -> TeacherNetwork:
    """A teacher for a student that takes `spec` and gives `outputs`, {name: shape of one example}.

    source: a functional Keras model; or a .keras, .onnx or .tflite file, a bundle's folder (both below `data_root` or
    anywhere) or a zoo model. A bundle says how its pictures are normalised, a model or file is given what the student is;
    a picture is scaled where the teacher's has another size of the same aspect. labels: the student's; of a bundle's, the
    same are picked in their order. A file's one output may have any name, and may be probabilities instead of logits.

    Raises DataMissingError, DataError, BundleError or EngineError for a source that is absent or broken, RecipeError for one
    that does not fit: it is tried here on two examples, for names, shapes, finite values and memory of earlier inputs.
    """
    teacher, theirs, their_labels = _open(source, spec, data_root)
    try:
        wanted = theirs if theirs is not None else _as_the_file_has_it(teacher, spec)
        rule = _input_rule(teacher, spec, wanted)
        teacher.rules = Rules(input=rule)
        examples = _examples(spec)
        told = _try(teacher, examples)
        columns = _columns(teacher, outputs, labels, their_labels)
        rules, by_name = _output_rules(teacher, told, outputs, columns)
        teacher.rules = Rules(rules, rule, keep_others=by_name)
        _check_said(teacher, teacher(examples), outputs)
    except BaseException:
        teacher.close()
        raise
    return teacher


def output_shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """{name: shape of one example} of a Keras network with a dict of outputs."""
    return {name: tuple(tensor.shape[1:]) for name, tensor in network.output.items()}


def _open(
    source: Any, spec: Spec, data_root: Path | None
) -> tuple[TeacherNetwork, Spec | None, tuple[str, ...] | None]:
    """The teacher, and where it is told, what it takes and its labels."""
    if not isinstance(source, str | Path):
        return _keras_teacher(source, name=str(getattr(source, "name", source))[:60]), None, None
    where = Path(source)
    if "\0" in str(source):
        raise RecipeError(f"teacher {str(source)!r} is no path")
    if data_root is not None and (data_root / where).exists():
        where = data_root / where
    if where.suffix.lower() in FILE_KINDS and not where.is_dir():
        return _file_teacher(where, spec, where.name), None, None
    bundle = load_bundle(where if where.is_dir() else source)
    return _bundle_teacher(bundle), bundle.manifest.input, tuple(bundle.manifest.labels)


def _file_teacher(path: Path, spec: Spec, name: str) -> TeacherNetwork:
    if not path.is_file():
        raise DataMissingError(f"no teacher at {path}", next_step="name another file, bundle or zoo model")
    if path.suffix.lower() == ".keras":
        from compress.networks.keras_file import keras_network

        return _keras_teacher(keras_network(path), name=name, fingerprint=file_fingerprint(path))
    return FileTeacher(path, shape=_shape(spec), name=name)


def _bundle_teacher(bundle: Bundle) -> TeacherNetwork:
    for entry in bundle.manifest.files:
        if entry.path == NETWORK_NAME:
            return _file_teacher(bundle.path(entry), bundle.manifest.input, bundle.name)
    engines = [entry for entry in bundle.manifest.engine_files if entry.format in ("onnx", "tflite")]
    if not engines:
        raise RecipeError(f"bundle {bundle.name} holds neither its network nor an ONNX or TFLite file")
    best = min(engines, key=lambda entry: _PRECISIONS.index(str(entry.precision)))
    return _file_teacher(bundle.path(best), bundle.manifest.input, f"{bundle.name}/{best.path}")


def _keras_teacher(network: Any, *, name: str, fingerprint: str = "") -> TeacherNetwork:
    if not hasattr(network, "_nodes_by_depth") or len(getattr(network, "inputs", ())) != 1:
        raise RecipeError(f"teacher {name}: a functional Keras model of one input is needed")
    return KerasTeacher(network, name=name, fingerprint=fingerprint)


def _shape(spec: Spec) -> tuple[int, ...]:
    return (spec.height, spec.width, 3) if isinstance(spec, ImageInput) else (spec.frames, spec.mels, 1)


def _as_the_file_has_it(teacher: TeacherNetwork, spec: Spec) -> Spec:
    """The student's contract, at the teacher's size."""
    size = teacher.raw_input
    if (
        isinstance(spec, ImageInput)
        and len(size) == 3
        and size[2] == 3
        and None not in size
        and min(size[:2]) >= 8
    ):
        return spec.model_copy(update={"height": size[0], "width": size[1]})
    return spec


def _input_rule(teacher: TeacherNetwork, given: Spec, wanted: Spec) -> InputRule | None:
    """How to feed it; None where it takes what the student does. Raises RecipeError where it cannot be fed."""
    fits = tuple(w if g is None else g for g, w in zip(teacher.raw_input, _shape(wanted), strict=False))
    if len(teacher.raw_input) != len(_shape(wanted)) or fits != _shape(wanted):
        raise RecipeError(
            f"teacher {teacher.name} takes {teacher.raw_input}, the student {_shape(given)}", next_step=_OTHER
        )
    if isinstance(given, ImageInput) and isinstance(wanted, ImageInput):
        same = {"name": wanted.name, "layout": wanted.layout}
        if given.model_copy(update=same) == wanted:
            return None
        if given.height * wanted.width != given.width * wanted.height:
            raise RecipeError(
                f"teacher {teacher.name} takes pictures of {wanted.width} x {wanted.height}, the student of "
                f"{given.width} x {given.height}: the aspect must be the same"
            )
        for key in ("resize", "anchor", "pad"):
            ours, theirs = getattr(given, key), getattr(wanted, key)
            if ours != theirs:
                raise RecipeError(
                    f"teacher {teacher.name} was trained with {key} = {theirs!r}, the student's input has {ours!r}",
                    next_step=f"set {key} = {theirs!r} in the recipe's [input]",
                )
        return InputRule(given, wanted)
    if given.kind != wanted.kind or given.model_copy(update={"name": wanted.name}) != wanted:
        differs = [
            key
            for key, value in given.model_dump().items()
            if getattr(wanted, key, None) != value and key != "name"
        ]
        raise RecipeError(
            f"teacher {teacher.name} hears other features than the student: {', '.join(differs)}",
            next_step="give the recipe the teacher's [input]",
        )
    return None


def _examples(spec: Spec) -> NDArray[np.float32]:
    """Two inputs, of noise."""
    rng = np.random.default_rng(0)
    if isinstance(spec, ImageInput):
        pixels = rng.integers(0, 256, (2, *_shape(spec))).astype(np.float32)
        return np.asarray((pixels - np.array(spec.mean)) / np.array(spec.std), np.float32)
    return rng.uniform(-1, 1, (2, *_shape(spec))).astype(np.float32)


def _try(teacher: TeacherNetwork, examples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Its own outputs. Raises RecipeError where it cannot run or remembers."""
    given = examples if teacher.rules.input is None else np.asarray(teacher.rules.input.apply(examples))
    try:
        told = {name: np.asarray(value) for name, value in teacher.raw(given).items()}
        again = teacher.raw(given)
    except EdgeError as error:
        raise RecipeError(f"teacher {teacher.name}: {error}") from error
    except Exception as error:  # whatever layers there are inside, each has errors of its own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RecipeError(f"teacher {teacher.name} cannot run: {first[:200]}") from error
    for name, value in told.items():
        if not np.isfinite(value).all():
            raise RecipeError(f"teacher {teacher.name}: its output {name!r} is no finite number")
        if not np.allclose(value, again[name], rtol=1e-3, atol=1e-3):
            raise RecipeError(
                f"teacher {teacher.name}: {name!r} differs when it is asked again: it remembers, or draws at random",
                next_step="a streaming or random model cannot teach; take its plain form",
            )
    return told


def _columns(
    teacher: TeacherNetwork, outputs: Shapes, ours: Sequence[str] | None, theirs: Sequence[str] | None
) -> tuple[int, ...] | None:
    """Which of the teacher's labels are the student's, in their order; None for all as they are."""
    if ours is None or theirs is None or tuple(ours) == tuple(theirs):
        return None
    missing = [label for label in ours if label not in theirs]
    if missing or set(outputs) - {"class", "keyword"}:
        what = f"it does not know {missing[0]!r}" if missing else "they are in another order"
        raise RecipeError(
            f"teacher {teacher.name}: its labels are {', '.join(theirs)[:120]}; {what}", next_step=_OTHER
        )
    return tuple(theirs.index(label) for label in ours)


def _output_rules(
    teacher: TeacherNetwork,
    told: Mapping[str, NDArray[np.float32]],
    outputs: Shapes,
    columns: tuple[int, ...] | None,
) -> tuple[dict[str, OutputRule], bool]:
    """({the student's name: rule}, whether other outputs stay). Raises RecipeError naming what does not fit."""
    by_name = all(name in told for name in outputs)
    rules = {}
    for name, shape in outputs.items():
        if by_name:
            found = [name]
        elif len(outputs) == len(told) == 1:
            found = list(told)
        else:
            found = [other for other, value in told.items() if _fits(value.shape[1:], shape) is not None]
        if len(found) != 1:
            raise _misfit(teacher, told, outputs, name)
        value = told[found[0]]
        picked = columns if value.shape[-1] != shape[-1] or columns is not None else None
        layout = _fits(value.shape[1:], (*shape[:-1], value.shape[-1]) if picked else shape)
        if layout is None or len(value) != 2:
            raise _misfit(teacher, told, outputs, name)
        rules[name] = OutputRule(found[0], layout, picked, _least(teacher, name, value))
    if len({rule.name for rule in rules.values()}) < len(rules):
        raise _misfit(teacher, told, outputs, next(iter(rules)))
    return rules, by_name


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool | None:
    """Whether the channels come first in `shape`; None where it is another shape altogether."""
    if shape == wanted:
        return False
    return True if len(shape) > 1 and (*shape[1:], shape[0]) == wanted else None


def _least(teacher: TeacherNetwork, name: str, value: NDArray[np.float32]) -> float | None:
    """The least probability, where the output is of those."""
    if name not in EXCLUSIVE or value.shape[-1] < 2 or value.min() < 0:
        return None
    if not np.allclose(value.sum(-1), 1, atol=0.02):
        return None
    return LEAST_STORED if teacher.quantised else LEAST_FLOAT


def _check_said(teacher: TeacherNetwork, said: Mapping[str, NDArray[np.float32]], outputs: Shapes) -> None:
    for name, shape in outputs.items():
        if said[name].shape != (2, *shape):
            raise _misfit(teacher, said, outputs, name)
        if not np.isfinite(said[name]).all():
            raise RecipeError(f"teacher {teacher.name}: its output {name!r} is no finite number")


def _misfit(
    teacher: TeacherNetwork, told: Mapping[str, NDArray[Any]], outputs: Shapes, name: str
) -> RecipeError:
    given = ", ".join(f"{other} {tuple(value.shape[1:])}" for other, value in list(told.items())[:6])
    return RecipeError(
        f"teacher {teacher.name} gives {given}; the student's {name} is {tuple(outputs[name])}",
        next_step=_OTHER,
    )
