"""Texts as the symbols that a recipe's labels are."""

from __future__ import annotations

from collections.abc import Sequence

from edgeai.errors import DataError


def spell(text: str, symbols: Sequence[str]) -> list[int]:
    """`text` as numbers of `symbols`, the longest that fits first; spaces that are no symbol are left out.

    Raises DataError for what no symbol stands for.

    >>> spell("on off", ("o", "n", "f", "off"))
    [0, 1, 3]
    """
    by_length = sorted(range(len(symbols)), key=lambda i: -len(symbols[i]))
    spelled: list[int] = []
    at = 0
    while at < len(text):
        found = next((i for i in by_length if text.startswith(symbols[i], at)), None)
        if found is not None:
            spelled.append(found)
            at += len(symbols[found])
        elif text[at].isspace():
            at += 1
        else:
            raise DataError(
                f"{text!r} cannot be spelled: no label stands for {text[at]!r}",
                next_step="add it to the recipe's labels",
            )
    return spelled
