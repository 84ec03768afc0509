"""The commands of `edgeai-compress data`: look over, change, split, fetch and make data. The work is in compress.data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look over, convert, split, fetch and make training data.",
)

Folder = Annotated[Path, typer.Argument(help="A data folder.")]
Splits = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads the annotation on Python 3.10 too
    typer.Option(
        "--split", help="A split's name, for example train; may be given more than once. All where not given."
    ),
]
