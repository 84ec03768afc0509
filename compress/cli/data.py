"""The commands of `edgeai-compress data`: look over, change, split, fetch and make data. The work is in compress.data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compress.cli.options import Json

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look over, convert, split, fetch and make training data.",
)
synthesize = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make data where there is too little: spoken words, pictures of a rare class.",
)
app.add_typer(synthesize, name="synthesize")

Folder = Annotated[Path, typer.Argument(help="A data folder.")]
Splits = Annotated[
    list[str] | None,
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
    """Write pictures with boxes in another format, all splits or those named.

    Example: edgeai-compress data convert ../shared/data/rice_weeds --to yolo --out out/rice_yolo
    """
    from compress.cli import formats

    return formats.convert(
        folder, out, to=to, source=source, splits=split, link=link, json_output=json_output
    )


@app.command()
def prelabel(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures; those in its folders count too.")],
    bundle: Annotated[str, typer.Option("--bundle", help="A detector: a bundle's folder, or a zoo model.")],
    to: Annotated[str, typer.Option("--to", help="label-studio, cvat, coco, yolo or voc.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="A .json file (label-studio, coco), a .xml file (cvat) or a new folder."),
    ],
    min_score: Annotated[float, typer.Option("--min-score", help="Fainter boxes are left out.")] = 0.3,
    json_output: Json = False,
) -> int:
    """Let a detector draw boxes on pictures, for people to correct in an annotation tool.

    Example: edgeai-compress data prelabel photos --bundle person-detector --to label-studio --out tasks.json
    """
    from compress.cli import formats

    return formats.prelabel(folder, out, bundle=bundle, to=to, min_score=min_score, json_output=json_output)


@synthesize.command("speech")
def synthesize_speech(
    words: Annotated[str, typer.Option("--words", help="Words or phrases, between commas; each is a label.")],
    out: Annotated[Path, typer.Option("--out", help="The new folder.")],
    unknown: Annotated[
        str, typer.Option("--unknown", help='Other words, which all get the label "unknown".')
    ] = "",
    voices: Annotated[int, typer.Option("--voices", help="How many voices take turns.")] = 40,
    per_word: Annotated[int, typer.Option("--per-word", help="Clips of each label.")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same clips.")] = 0,
    language: Annotated[str, typer.Option("--language", help="As espeak-ng names it: en, de, pt-br.")] = "en",
    sample_rate: Annotated[int, typer.Option("--sample-rate", help="Hz.")] = 16000,
    json_output: Json = False,
) -> int:
    """Let espeak-ng speak words with many voices: clips and a train.csv for a first keyword model.

    Example: edgeai-compress data synthesize speech --words "yes,no,turn left" --out out/spoken
    """
    from compress.cli import synthesize as command

    return command.speech(
        words,
        out,
        unknown=unknown,
        voices=voices,
        per_word=per_word,
        seed=seed,
        language=language,
        sample_rate_hz=sample_rate,
        json_output=json_output,
    )


@synthesize.command("machine")
def synthesize_machine(
    out: Annotated[Path, typer.Option("--out", help="The new folder.")],
    clips: Annotated[
        int, typer.Option("--clips", help="Of the machine as it should be, three seconds each.")
    ] = 400,
    faulty: Annotated[int, typer.Option("--faulty", help="Of each kind of fault.")] = 40,
    noises: Annotated[
        Path | None, typer.Option("--noises", help="A folder of recordings to put behind the machine.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same clips.")] = 0,
    split: Annotated[str, typer.Option("--split", help="What the list is called.")] = "train",
    json_output: Json = False,
) -> int:
    """Make the sound of a rotating machine, sound and with six kinds of fault: to try an autoencoder before there are recordings.

    Example: edgeai-compress data synthesize machine --out out/machine
    """
    from compress.cli import synthesize as command

    return command.machine(
        out, clips=clips, faulty=faulty, noises=noises, seed=seed, split=split, json_output=json_output
    )


@app.command()
def check(
    folder: Folder,
    split: Splits = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Write lists without what was found: instances_<split>-clean.json, <split>-clean.csv.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where --clean writes: a folder, or one file; beside the lists where not given."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write an HTML page with the faulty pictures and sounds too."),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            "--sample-rate", help="What every sound must have, in Hz; else most of them say.", min=1000
        ),
    ] = None,
    min_examples: Annotated[
        int, typer.Option("--min-examples", help="A class with fewer in a split is told.", min=0)
    ] = 10,
    json_output: Json = False,
) -> int:
    """Look a data set over: broken files, wrong boxes, duplicates, leakage between splits, odd sounds. 1 where there are errors.

    Example: edgeai-compress data check ../shared/data/fsdd --split train --split test --report out/fsdd.html
    """
    from compress.cli.data_check import check_folder

    return check_folder(
        folder,
        split or (),
        clean=clean,
        out=out,
        report=report,
        rate_hz=sample_rate,
        min_examples=min_examples,
        json_output=json_output,
    )


@app.command("split")
def split_list(
    folder: Folder,
    parts: Annotated[
        str, typer.Option("--parts", help="Names and shares that sum to 1.")
    ] = "train=0.8,validation=0.1,test=0.1",
    source: Annotated[
        str, typer.Option("--from", help="The list to part: all is all.csv or instances_all.json.")
    ] = "all",
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="What stays together: group (speaker, site ... as listed), a column, folder, file, or name:REGEX.",
        ),
    ] = "group",
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same parts.", min=0)] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the lists go; beside the one that is parted where not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace lists that are there.")] = False,
    json_output: Json = False,
) -> int:
    """Part a list into splits that share no speaker, site or day, with the classes as balanced as that allows.

    Example: edgeai-compress data split recordings --by speaker --parts train=0.8,validation=0.1,test=0.1
    """
    from compress.cli.data_split import split_folder

    return split_folder(
        folder, source=source, by=by, parts=parts, seed=seed, out=out, force=force, json_output=json_output
    )


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="A set that --list shows.")] = None,
    into: Annotated[
        Path, typer.Option("--into", help="The set becomes a folder of its name in here.")
    ] = Path("data"),
    source: Annotated[
        str,
        typer.Option(
            "--from", help="A mirror: a URL or folder with the files, or a folder with the set unpacked."
        ),
    ] = "",
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept-sha256", help="A hash that you vouch for, where none is known."),
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show the known sets, fetch nothing.")] = False,
    json_output: Json = False,
) -> int:
    """Download a public data set, check its hash, unpack it safely, and list it for training.

    Example: edgeai-compress data fetch fsdd --into data
    """
    from compress.cli.data_fetch import fetch_named

    return fetch_named(
        name, into=into, source=source, accept=accept or (), show_list=show_list, json_output=json_output
    )


@synthesize.command("pictures")
def synthesize_pictures(
    folder: Folder,
    label: Annotated[str, typer.Option("--label", help="The rare class.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The new folder."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Where pictures and crops come from.")] = "train",
    count: Annotated[int, typer.Option("--count", help="Pictures to make, one new object in each.")] = 200,
    method: Annotated[
        str, typer.Option("--method", help="gan: drawn by a small network; copy: the real crops again.")
    ] = "gan",
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Training steps of the generator; 1500 where not given."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed, the same choices.")] = 0,
    trial: Annotated[
        bool,
        typer.Option(
            "--try", help="Make no folder: train small detectors with and without, and tell the difference."
        ),
    ] = False,
    trial_steps: Annotated[int, typer.Option("--try-steps", help="Of each of the six trainings.")] = 500,
    keep: Annotated[int, typer.Option("--keep", help="With --try: how many boxes the class is left.")] = 15,
    json_output: Json = False,
) -> int:
    """More of a rare class: new objects put into training pictures, where they fit, with complete labels.

    Example: edgeai-compress data synthesize pictures ../shared/data/deeppcb --label spur --out out/spurs
    """
    from compress.cli import synthesize as command

    return command.pictures(
        folder,
        out,
        label=label,
        split=split,
        count=count,
        steps=steps,
        seed=seed,
        method=command.method_of(method),
        trial=trial,
        trial_steps=trial_steps,
        keep=keep,
        json_output=json_output,
    )
