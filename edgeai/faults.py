"""What pydantic found wrong, in the words of the file that it came from: which key, what is wrong, what was meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from edgeai.toml_lines import Path


class Fault(NamedTuple):
    """path: the key at fault, from the root, as the file has it. text: one clause that names it."""

    path: Path
    text: str


def describe_fault(fault: ErrorDetails, model: type[BaseModel]) -> Fault:
    """One of `ValidationError.errors()`, found while validating `model`.

    A value_error whose context holds "below" (a path) is about that key below the place it was raised for.
    """
    kind, context = fault["type"], fault.get("ctx", {})
    path, known = trace(model, fault["loc"])
    if kind == "union_tag_invalid":
        path = (*path, context["discriminator"].strip("'"))
        text = f"{_dotted(path)}: must be one of {context['expected_tags']}, is {shown(context['tag'])}"
    elif kind == "union_tag_not_found":
        path = (*path, context["discriminator"].strip("'"))
        text = f"key {_dotted(path)!r} is missing"
    elif kind == "missing" and isinstance(path[-1], int):
        text = f"{_dotted(path[:-1])}: needs more than {path[-1]} values"
    elif kind == "missing":
        text = f"key {_dotted(path)!r} is missing"
    elif kind == "extra_forbidden":
        text = f"unknown key {_dotted(path)!r}; {nearest_hint(str(path[-1]), known)}"
    elif kind in {"tuple_type", "list_type"} and isinstance(fault["input"], dict):
        text = f"{_dotted(path)}: must be a list; tables of a list are written [[{path[-1]}]]"
    else:
        path = (*path, *context.get("below", ()))
        message = fault["msg"].removeprefix("Value error, ").replace("Input should ", "must ", 1)
        message = "must be a table" if kind == "model_type" else message
        text = f"{_dotted(path)}: {message}" if path else message
        if kind != "value_error" and not kind.startswith("edgeai"):
            text += f", is {shown(fault['input'])}"
    return Fault(path, text)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """What to try in place of `name`.

    >>> nearest_hint("treshold", ["threshold", "labels"]), nearest_hint("x", ["threshold", "labels"])
    ("did you mean 'threshold'?", 'known are threshold, labels')
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"


def trace(model: type[BaseModel], loc: Iterable[str | int]) -> tuple[Path, tuple[str, ...]]:
    """A `loc` of pydantic's without the tags of unions, which are no keys; and the keys known beside its last one."""
    path: Path = ()
    known: tuple[str, ...] = ()
    place: Any = model
    for part in loc:
        options = _options(place)
        models = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if len(models) > 1:
            place = next((each for each in models if _is_tagged(each, part)), None)
            known = _keys(place) if place else ()
            continue
        path = (*path, part)
        if models:
            known = _keys(models[0])
            place = next(
                (
                    field.annotation
                    for name, field in models[0].model_fields.items()
                    if part in {name, field.alias}
                ),
                None,
            )
        else:
            place = _element(options, part)
    return path, known


def shown(value: object) -> str:
    """A value in a message as TOML and JSON write it, cut to 60 characters."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path) or "the whole"


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _options(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without None and pydantic's marks."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [option for each in get_args(annotation) for option in _options(each)]
    return [] if annotation in {None, type(None)} else [annotation]


def _is_tagged(model: type[BaseModel], tag: str | int) -> bool:
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )


def _element(options: list[Any], part: str | int) -> Any:
    """The type of a list's or mapping's element; None where there is no telling."""
    for option in options:
        arguments = get_args(option)
        if get_origin(option) is dict and len(arguments) == 2:
            return arguments[1]
        if get_origin(option) in {tuple, list} and isinstance(part, int) and arguments:
            return arguments[min(part, len(arguments) - 1)] if arguments[-1] is not Ellipsis else arguments[0]
    return None
