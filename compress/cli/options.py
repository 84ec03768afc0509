"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="EDGEAI_DATA",
        help="Where the data folders are; ../shared/data beside the repository, else ./data.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Machine-readable output: one JSON line on standard output.")
]
BundleName = Annotated[str, typer.Argument(help="A bundle's folder, or the name of a zoo model.")]
