"""Parts of a page. Plain strings are escaped; only `Html`, which the functions here return, goes in as it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from edgeai.errors import UsageError


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def section(heading: str, parts: Sequence[str]) -> Html:
    """A part of the page under its heading; plain strings become paragraphs."""
    body = "".join(part if isinstance(part, Html) else paragraph(part) for part in parts)
    return Html(f"<section><h2>{escape(heading)}</h2>{body}</section>")


def paragraph(text: str) -> Html:
    return Html(f"<p>{escape(text)}</p>")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, dimmed: Sequence[int] = ()) -> Html:
    """A table that scrolls sideways where it is too wide; the first column stands left, others of numbers
    right, rows in `dimmed` grey.

    Raises UsageError for a row of another length than the headings.
    """
    if any(len(row) != len(headings) for row in rows):
        raise UsageError(f"every row of a table needs {len(headings)} cells, as it has headings")
    numeric = [
        column > 0 and bool(rows) and all(_is_number(row[column]) for row in rows)
        for column in range(len(headings))
    ]
    head = "".join(_cell("th", heading, right) for heading, right in zip(headings, numeric, strict=True))
    body = "".join(
        f'<tr class="dim">{cells}</tr>' if number in dimmed else f"<tr>{cells}</tr>"
        for number, cells in enumerate(
            "".join(_cell("td", cell, right) for cell, right in zip(row, numeric, strict=True))
            for row in rows
        )
    )
    return Html(
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def cards(figures: Sequence[tuple[str, str, str]]) -> Html:
    """Key figures: (what, value, a few words below)."""
    made = "".join(
        f'<div class="card"><span>{escape(what)}</span><b>{escape(value)}</b><small>{escape(note)}</small></div>'
        for what, value, note in figures
    )
    return Html(f'<div class="cards">{made}</div>')


def pairs(rows: Sequence[tuple[str, object]]) -> Html:
    """Names and values, one a line."""
    made = "".join(f"<dt>{escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows)
    return Html(f"<dl>{made}</dl>")


def side_by_side(*parts: Html) -> Html:
    """Charts or pictures in columns, as many as fit."""
    return Html(f'<div class="columns">{"".join(parts)}</div>')


def fold(summary: str, text: str) -> Html:
    """Long plain text that opens on a click."""
    return Html(f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>")


def picture(jpeg: bytes, caption: str) -> Html:
    """A JPEG inside the page. Raises UsageError for bytes that are none."""
    if jpeg[:3] != b"\xff\xd8\xff":
        raise UsageError(f"the picture {caption!r} is no JPEG")
    data = base64.b64encode(jpeg).decode()
    return Html(
        f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def _cell(tag: str, value: object, right: bool) -> str:
    return f'<{tag} class="n">{_text(value)}</{tag}>' if right else f"<{tag}>{_text(value)}</{tag}>"


def _is_number(value: object) -> bool:
    text = str(value)
    return text in ("", "-") or (text[:1].isdigit() or text[:2].lstrip("-+")[:1].isdigit())
