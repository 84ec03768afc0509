"""The command `edgeai serve`: its options and example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai.cli.options import EngineChoice, Json, Threads, Verify


def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Bundles' folders, or names of zoo models.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any free one.")] = 8080,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A file of mode 0600: its first line is what clients must know."),
    ] = None,
    engine: EngineChoice = None,
    threads: Threads = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Engines a model, at work at once.")] = 1,
    queue: Annotated[int, typer.Option(min=0, max=10_000, help="Requests a model that may wait.")] = 16,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=1024, max=1 << 30, help="Largest body of a request.")
    ] = 8 << 20,
    batch: Annotated[
        int, typer.Option(min=1, max=64, help="Waiting pictures to run at once, where the engine's file can.")
    ] = 1,
    verify: Verify = False,
    json_output: Json = False,
) -> int:
    """Serve models over HTTP: pictures, clips and tensors in, JSON out (needs edgeai[serve]).

    Example: edgeai serve person-detector commands
    """
    from edgeai.cli.serve import serve_models

    return serve_models(
        bundles,
        host=host,
        port=port,
        token_file=token_file,
        engine=engine,
        threads=threads,
        workers=workers,
        queue=queue,
        max_bytes=max_bytes,
        batch=batch,
        verify=verify,
        json_output=json_output,
    )
