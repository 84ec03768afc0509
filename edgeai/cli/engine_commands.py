"""The commands of `edgeai engine`, their options and examples; what they do is in edgeai.cli.engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai.cli.options import Cache, Json

engine_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="TensorRT engines, built on this device.",
    epilog="Example: edgeai engine build person-detector",
)


@engine_app.command("build")
def engine_build(
    bundles: Annotated[
        list[str] | None, typer.Argument(help="Bundles' folders, or names of zoo models.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Build what this configuration runs.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All ONNX files of a bundle, not only the best.")
    ] = False,
    dla: Annotated[
        int | None, typer.Option("--dla", min=0, max=7, help="For this DLA core (Jetson).")
    ] = None,
    cache: Cache = None,
    json_output: Json = False,
) -> int:
    """Build TensorRT engines, check their answers and keep them: the first start then waits for nothing.

    Example: edgeai engine build --config firmware_configs/examples/gate.toml
    """
    from edgeai.cli.engine import build_engines

    return build_engines(
        bundles or [], config=config, every=every, cache=cache, dla=dla, json_output=json_output
    )


@engine_app.command("list")
def engine_list(cache: Cache = None, json_output: Json = False) -> int:
    """List the engines that are kept.

    Example: edgeai engine list --json
    """
    from edgeai.cli.engine import list_engines

    return list_engines(cache=cache, json_output=json_output)


@engine_app.command("clear")
def engine_clear(
    cache: Cache = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Timing caches and leftovers too.")
    ] = False,
    json_output: Json = False,
) -> int:
    """Remove the engines that are kept; they are built again when needed.

    Example: edgeai engine clear
    """
    from edgeai.cli.engine import clear_engines

    return clear_engines(cache=cache, everything=everything, json_output=json_output)
