"""Settings classes say in their docstring what each field is. It is read from there, so that it is said once.

The form: what the class is, then a run for each field, `name: what it is.`, or `one, other: what both are.`; a run begins
a sentence, or follows a semicolon, and ends where the next begins.
"""

from __future__ import annotations

import re
from functools import cache

from pydantic import BaseModel


def class_text(model: type[BaseModel]) -> str:
    """What a class's docstring says before its first field, in one line; "" where it begins with one.

    >>> class Hours(BaseModel):
    ...     '''When a shop is open. opens, closes: hours of the day,
    ...     0 to 24; closed: days of the week.'''
    ...     opens: int
    ...     closes: int
    ...     closed: str = ""
    >>> class_text(Hours)
    'When a shop is open.'
    """
    return _read(model.__doc__ or "", tuple(model.model_fields))[""]


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """What docstrings say of each field, as sentences; its own class's first, then those it inherits from.

    A field that none of them tells of is not in it.

    >>> class Door(BaseModel):
    ...     '''opens: when it may, "08:30"; closes: when it must. Not: never.'''
    ...     opens: str
    ...     closes: str
    ...     colour: str
    >>> field_texts(Door)
    {'opens': 'When it may, "08:30".', 'closes': 'When it must. Not: never.'}
    """
    names = tuple(model.model_fields)
    texts: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            told = _read(each.__dict__.get("__doc__") or "", names)
            texts.update({name: text for name, text in told.items() if name})
    return {name: texts[name] for name in names if name in texts}


@cache
def _read(docstring: str, names: tuple[str, ...]) -> dict[str, str]:
    """The runs of a docstring by field, and what stands before them by ""."""
    text = " ".join(docstring.split())
    if not names:
        return {"": text}
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    opening = re.compile(rf"(?:^|(?<=[.;] ))((?:{name})(?:(?:, | and )(?:{name}))*): ")
    found = [*opening.finditer(text)]
    runs = {"": text[: found[0].start()].strip() if found else text}
    ends = [*(run.start() for run in found[1:]), len(text)]
    for run, end in zip(found, ends, strict=False):
        said = text[run.end() : end].strip().rstrip(";.") + "."
        for each in re.split(", | and ", run[1]):
            runs[each] = said[0].upper() + said[1:]
    return runs
