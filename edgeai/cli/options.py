"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output: JSON on standard output.")]
Model = Annotated[str, typer.Option("--bundle", "-b", help="A bundle's folder, or the name of a zoo model.")]
EngineChoice = Annotated[
    str | None,
    typer.Option("--engine", help='What runs it: "onnx", "tflite/float16", "plan", or a file of the bundle.'),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare each engine with its bundle's golden outputs first.")
]
Cache = Annotated[Path | None, typer.Option("--cache", help="The folder of built and measured engines.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=64, help="Threads of the engine.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", help="Write the tables here too, for a README or an issue.")
]
Against = Annotated[
    Path | None,
    typer.Option("--compare", help="The JSON of another run, here or on another machine: put beside."),
]
