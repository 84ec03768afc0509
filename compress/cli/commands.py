"""The commands of `edgeai-compress`, their options and examples; what they do is in the module of each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from compress.cli.data import app as data_app
from compress.cli.options import BundleName, DataRoot, Json
from edgeai import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, prune, distill and quantize models, measure them, and pack them for devices.",
)

app.add_typer(data_app, name="data")
bench_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure how fast training is.")
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"edgeai-compress {__version__}")
        raise typer.Exit()


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A .keras, .onnx or float .tflite file, or the folder of a SavedModel.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The Keras file; the source's name with .keras where not given."),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", help="What to call an output: OLD=NEW, or NEW where there is one."),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option("--environment", help="Where onnx2tf is set up, once; ~/.cache/edgeai where not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
    json_output: Json = False,
) -> int:
    """Make a network of another tool one that recipes prune, distill and quantize; checked to say what the source says.

    Example: edgeai-compress import detector.onnx --out detector.keras
    """
    from compress.cli.imports import import_file

    return import_file(
        source,
        out=out,
        outputs=tuple(outputs or ()),
        environment=environment,
        force=force,
        json_output=json_output,
    )


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, TOML.")],
    data: DataRoot = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The bundle's folder; the recipe's own where it is models/<name>/, else out/<name>."
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Working files, kept for a look; out/work/<name> where not given."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe, data, network and passes; train nothing.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, where a run that was cut off would go on.")
    ] = False,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Also train the final architecture from nothing, for as long, and compare."
        ),
    ] = False,
    distribute: Annotated[
        Literal["one", "mirrored", "multi-worker"],
        typer.Option(
            "--distribute", help="Train on one device, all GPUs here, or the hosts that TF_CONFIG names."
        ),
    ] = "one",
    json_output: Json = False,
) -> int:
    """Make the bundle that a recipe describes, and a report of it. A run that was cut off goes on where it was.

    Example: edgeai-compress run models/commands/recipe.toml --data ../shared/data
    """
    from compress.cli.run import run_file

    return run_file(
        recipe,
        data=data,
        out=out,
        work=work,
        dry_run=dry_run,
        fresh=fresh,
        control=control,
        distribute=distribute,
        json_output=json_output,
    )


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Your data: pictures with boxes, or clips, with labels.")],
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.toml"),
    split: Annotated[str, typer.Option("--split", help="What to learn from.")] = "train",
    name: Annotated[str | None, typer.Option("--name", help="What the model is called.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="A zoo model or bundle to go on training from."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps.")] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", help="Side of the model's picture, a multiple of 32."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
    json_output: Json = False,
) -> int:
    """Write a first recipe for your own data, to look over and run.

    Example: edgeai-compress new ../shared/data/rice_weeds --from person-detector --out weeds.toml
    """
    from compress.cli.new import write_draft

    return write_draft(
        folder,
        out=out,
        split=split,
        name=name,
        start=start,
        steps=steps,
        size=size,
        force=force,
        json_output=json_output,
    )


@app.command("zoo-eval")
def zoo_eval(
    data: DataRoot = None,
    models: Annotated[Path, typer.Option("--models", help="The zoo, with its zoo.toml.")] = Path("models"),
    readme: Annotated[Path, typer.Option("--readme", help="Where the table of all models is.")] = Path(
        "README.md"
    ),
    out: Annotated[Path, typer.Option("--out", help="For pictures of the worst examples.")] = Path("out/zoo"),
    only: Annotated[
        str, typer.Option("--only", help="Names of models, separated by commas; all without.")
    ] = "",
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Write the figures to manifests, cards and the README; else compare with them."
        ),
    ] = False,
    json_output: Json = False,
) -> int:
    """Measure every model of the zoo again, each engine file, and check that cards and README say the same.

    Example: edgeai-compress zoo-eval --data ../shared/data --only commands
    """
    from compress.cli.run import find_data_root
    from compress.cli.zoo import evaluate_zoo

    return evaluate_zoo(
        models,
        data_root=find_data_root(data),
        readme=readme,
        out=out,
        only=[name.strip() for name in only.split(",") if name.strip()],
        write=write,
        json_output=json_output,
    )


@app.command("eval")
def evaluate(
    bundle: BundleName,
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="A folder with instances_<split>.json and images/, or <split>.csv and clips/."
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="Which file of the folder, for example test.")],
    engine: Annotated[
        str | None,
        typer.Option(
            "--engine", help='Which engine file: "tflite/int8" (the default), "onnx/float32", its path.'
        ),
    ] = None,
    iou: Annotated[float, typer.Option("--iou", help="From which overlap on a box counts as found.")] = 0.5,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--others", help="More sound without the wake word, for false accepts; may be repeated."
        ),
    ] = None,
    slices: Annotated[
        bool,
        typer.Option("--slices", help="The metric by speaker or site, size, light, count, loudness, label."),
    ] = False,
    details: Annotated[
        bool,
        typer.Option("--details", help="Precision, recall, F1, confusion, calibration; parameters and MACs."),
    ] = False,
    thresholds: Annotated[
        float | None,
        typer.Option("--thresholds", help="The best threshold of each label for this precision, 0 to 1."),
    ] = None,
    sure: Annotated[
        bool,
        typer.Option(
            "--sure",
            help="Thresholds whose precision's lower 95 % bound reaches it: few examples prove little.",
        ),
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Write what was said about each example, JSON lines."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write an HTML page with curves and slices."),
    ] = None,
    worst: Annotated[
        Path | None,
        typer.Option("--worst", help="Draw the examples that it does worst on, on one JPEG."),
    ] = None,
    json_output: Json = False,
) -> int:
    """Measure a bundle on labelled data: AP50 or accuracy with its interval, bytes, milliseconds.

    Example: edgeai-compress eval person-detector --data ../shared/data/coco_people --split test --json
    """
    from compress.cli.evaluate import Wanted, evaluate_bundle

    wanted = Wanted(
        slices=slices,
        details=details,
        thresholds=thresholds,
        sure=sure,
        predictions=predictions,
        report=report,
        worst=worst,
    )
    return evaluate_bundle(
        bundle,
        data=data,
        split=split,
        engine=engine,
        iou=iou,
        others=others or (),
        wanted=wanted,
        json_output=json_output,
    )


@app.command()
def compare(
    bundle_a: Annotated[str, typer.Argument(help="A bundle's folder, or the name of a zoo model.")],
    bundle_b: Annotated[str, typer.Argument(help="The other; the same one again with another --engine-b.")],
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="A folder with instances_<split>.json and images/, or <split>.csv and clips/."
        ),
    ],
    split: Annotated[str, typer.Option("--split", help="Which file of the folder, for example test.")],
    engine_a: Annotated[
        str | None,
        typer.Option("--engine-a", help="Which engine file of the first; the int8 TFLite where not given."),
    ] = None,
    engine_b: Annotated[
        str | None,
        typer.Option("--engine-b", help="Which engine file of the second."),
    ] = None,
    iou: Annotated[float, typer.Option("--iou", help="From which overlap on a box counts as found.")] = 0.5,
    json_output: Json = False,
) -> int:
    """Two bundles on the same examples: the difference with its 95 % interval, and where they differ.

    Example: edgeai-compress compare commands out/mine --data ../shared/data/speech_commands --split test
    """
    from compress.cli.compare import compare_bundles

    return compare_bundles(
        bundle_a,
        bundle_b,
        data=data,
        split=split,
        engine_a=engine_a,
        engine_b=engine_b,
        iou=iou,
        json_output=json_output,
    )


@bench_app.command("train")
def bench_train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, TOML.")],
    data: DataRoot = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of each kind.")] = 64,
    json_output: Json = False,
) -> int:
    """How fast a recipe trains, beside its network alone and its batches alone.

    Example: edgeai-compress bench train models/commands/recipe.toml --data ../shared/data
    """
    from compress.cli.bench import run_train_bench

    return run_train_bench(recipe, data=data, steps=steps, json_output=json_output)


@app.command(name="trt-check")
def trt_check(
    files: Annotated[list[str], typer.Argument(help="ONNX files, bundles' folders, or zoo models.")],
    json_output: Json = False,
) -> int:
    """Whether TensorRT takes ONNX files: rules for Q/DQ, then NVIDIA's own parser and builder, without a GPU.

    Needs the extra trt-check.

    Example: edgeai-compress trt-check out/my-model --json
    """
    from compress.cli.trt_check import check_files

    return check_files(files, json_output=json_output)


@app.command()
def report(
    bundle: BundleName,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The HTML file; out/reports/<name>.html where not given."),
    ] = None,
    json_output: Json = False,
) -> int:
    """Write one self-contained HTML page about a bundle.

    Example: edgeai-compress report person-detector --out person-detector.html
    """
    from compress.cli.report import report_bundle

    return report_bundle(bundle, out=out, json_output=json_output)


@app.command()
def demo(
    video: Annotated[
        Path | None,
        typer.Option("--video", help="A video of a fixed camera with people in it."),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option("--audio", help="Recorded keywords, WAV or FLAC; may be given more than once."),
    ] = None,
    data: DataRoot = None,
    out: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out/demo"),
    json_output: Json = False,
) -> int:
    """Distill a camera's own footage into a tiny model, run it, and report over MQTT: the whole job, in small.

    Example: edgeai-compress demo --video entrance.mp4
    """
    from compress.quiet import start_tensorflow

    start_tensorflow()
    from compress.demo import run_demo

    return run_demo(video=video, audio=audio or (), data=data, out=out, json_output=json_output)


if __name__ == "__main__":
    from edgeai.console import run_app

    sys.exit(run_app(app, program="edgeai-compress"))
