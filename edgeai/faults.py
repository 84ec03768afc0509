"""What pydantic found wrong, in the words of the file that it came from: which key, what is wrong, what was meant."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from edgeai.toml_lines import Path


_SECRETIVE = ("password", "secret", "token")
_USER_IN_URL = re.compile(r"(?<=://).*@", re.DOTALL)  # to the last @: passwords hold slashes too
_QUERY_OF_URL = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]+")


class Fault(NamedTuple):
    """path: the key at fault, from the root, as the file has it. text: one clause that names it."""

    path: Path
    text: str


def describe_faults(error: ValidationError, model: type[BaseModel], *, most: int) -> list[Fault]:
    """What was found wrong while validating `model`, what says most first: a mistyped key is also a missing one, which
    is left out. Of more than `most` the last says how many more.
    """
    # a default that depends on a key that is wrong is no fault of its own
    faults = [
        each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"
    ]
    faults.sort(key=lambda each: each["type"] != "extra_forbidden")  # a stable sort: otherwise as they were
    told, more = faults[:most], len(faults) - most
    meant: set[Path] = set()
    for each in told:
        if each["type"] == "extra_forbidden":
            path, known = trace(model, each["loc"])
            meant.update((*path[:-1], name) for name in _near(str(path[-1]), known))
    told = [each for each in told if each["type"] != "missing" or trace(model, each["loc"])[0] not in meant]
    described = [*dict.fromkeys(describe_fault(each, model) for each in told)]
    return [*described, Fault((), f"and {more} faults more")] if more > 0 else described


def describe_fault(fault: ErrorDetails, model: type[BaseModel]) -> Fault:
    """One of `ValidationError.errors()`, found while validating `model`.

    A value_error whose context holds "below" (a path) is about that key below the place it was raised for.
    """
    kind, context = fault["type"], fault.get("ctx", {})
    path, known = trace(model, fault["loc"])
    if kind == "json_invalid":  # it was made by json.dumps: what is left is its depth
        text = "nested too deeply"
    elif kind == "union_tag_invalid":
        path = (*path, context["discriminator"].strip("'"))
        text = f"{dotted(path)}: must be one of {context['expected_tags']}, is {shown(context['tag'])}"
    elif kind == "union_tag_not_found":
        path = (*path, context["discriminator"].strip("'"))
        text = f"key {dotted(path)!r} is missing"
    elif kind == "missing" and isinstance(path[-1], int):
        text = f"{dotted(path[:-1])}: needs more than {path[-1]} values"
    elif kind == "missing":
        text = f"key {dotted(path)!r} is missing"
    elif kind == "extra_forbidden":
        text = f"unknown key {dotted(path)!r}; {_place_hint(model, fault['loc'], str(path[-1]), known)}"
    elif kind in {"tuple_type", "list_type"} and isinstance(fault["input"], dict):
        text = f"{dotted(path)}: must be a list; tables of a list are written [[{path[-1]}]]"
    else:
        path = (*path, *context.get("below", ()))
        message = fault["msg"].removeprefix("Value error, ").replace("Input should ", "must ", 1)
        message = "must be a table" if kind == "model_type" else message
        text = f"{dotted(path)}: {message}" if path else message
        if kind != "value_error" and not kind.startswith("edgeai") and not _is_secret(path):
            text += f", is {shown(fault['input'])}"
    return Fault(path, text)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """What to try in place of `name`.

    >>> nearest_hint("treshold", ["threshold", "labels"]), nearest_hint("x", ["threshold", "labels"])
    ("did you mean 'threshold'?", 'known are threshold, labels')
    """
    names = list(known)
    near = _near(name, names)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"


def _near(name: str, known: Iterable[str]) -> list[str]:
    """The nearest, where one is near."""
    return difflib.get_close_matches(name, [*known], n=1)


def _place_hint(model: type[BaseModel], loc: Iterable[str | int], name: str, known: tuple[str, ...]) -> str:
    """As nearest_hint, and where another table around it, or in it, has a key of just this name."""
    tables: list[tuple[Path, type[BaseModel]]] = []
    _trace(model, loc, tables)
    *around, (here, table) = tables
    inside = (
        f"{field}.{name}"
        for field, info in table.model_fields.items()
        for option in _options(info.annotation)
        if isinstance(option, type) and issubclass(option, BaseModel) and name in _keys(option)
    )
    for path, outer in reversed(around):
        if name in _keys(outer) and path != here:
            return f"it belongs to {dotted(path) if path else 'the top of the file'}, above its first [table]"
    options = [*map(repr, (*_near(name, known), *inside))]
    if options:
        return f"did you mean {' or '.join(options)}?"
    return nearest_hint(name, known)


def trace(model: type[BaseModel], loc: Iterable[str | int]) -> tuple[Path, tuple[str, ...]]:
    """A `loc` of pydantic's without the tags of unions, which are no keys; and the keys known beside its last one."""
    return _trace(model, loc, [])


def _trace(
    model: type[BaseModel], loc: Iterable[str | int], tables: list[tuple[Path, type[BaseModel]]]
) -> tuple[Path, tuple[str, ...]]:
    """As trace; tables gets the path and the model of each table on the way."""
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
        if models:
            tables.append((path, models[0]))
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
    """A value in a message as TOML and JSON write it, cut to 60 characters; of an address neither user nor query.

    >>> shown("rtsp://me:secret@camera/live?token=secret")
    "'rtsp://...@camera/live?...'"
    """
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    if "://" in text:
        text = _QUERY_OF_URL.sub(r"\1...", _USER_IN_URL.sub("...@", text))
    return text if len(text) <= 60 else text[:57] + "..."


def _is_secret(path: Path) -> bool:
    """Whether a value there may be a secret that was put into the wrong place."""
    return any(word in str(path[-1]) for word in _SECRETIVE) if path else False


def dotted(path: Path) -> str:
    """A path as messages write it."""
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
