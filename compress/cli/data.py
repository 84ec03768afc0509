"""The commands of `edgeai-compress data`: look over, change, split, fetch and make data. The work is in compress.data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from compress.cli.options import Json

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


@app.command()
def convert(
    folder: Folder,
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo, label-studio or cvat.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder.")],
    source: Annotated[
        str, typer.Option("--from", help="The format that is there; found where not given.")
    ] = "auto",
    split: Splits = None,
    link: Annotated[
        bool, typer.Option("--link", help="Symbolic links to the pictures in place of copies.")
    ] = False,
    json_output: Json = False,
) -> int:
    """Make a folder of pictures with boxes one of another format, all splits or those named.

    Example: edgeai-compress data convert ../shared/data/rice_weeds --to yolo --out out/rice_yolo
    """
    from compress.cli import formats

    return formats.convert(
        folder, out, to=to, source=source, splits=split, link=link, json_output=json_output
    )


@app.command()
def prelabel(
    folder: Folder,
    bundle: Annotated[str, typer.Option("--bundle", help="A detector: a bundle's folder, or a zoo model.")],
    to: Annotated[str, typer.Option("--to", help="label-studio, cvat, coco, yolo or voc.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="A .json file (label-studio, coco), a .xml file (cvat) or a new folder."),
    ],
    min_score: Annotated[float, typer.Option("--min-score", help="Fainter boxes are left out.")] = 0.3,
    json_output: Json = False,
) -> int:
    """Let a detector draw boxes on every picture of a folder, for people to correct in an annotation tool.

    Example: edgeai-compress data prelabel photos --bundle person-detector --to label-studio --out tasks.json
    """
    from compress.cli import formats

    return formats.prelabel(folder, out, bundle=bundle, to=to, min_score=min_score, json_output=json_output)
