"""One table for a terminal, for Markdown and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeai.report.html import Html
from edgeai.report.html import table as html_table


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is what a row is of; rows are as long as the headings."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Its title as a paragraph, then a pipe table: the first column left, others right."""
        lines = [
            f"**{_plain(self.title)}**",
            "",
            _line(self.headings),
            _line([":--", *["--:"] * (len(self.headings) - 1)]),
            *map(_line, self.rows),
        ]
        return "\n".join(lines) + "\n"

    def to_html(self) -> Html:
        return html_table(self.headings, self.rows)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """No cell ends early, none is HTML or a link."""
    text = " ".join(str(text).split())
    for sign in "\\|<>[]`*":
        text = text.replace(sign, f"\\{sign}")
    return text
