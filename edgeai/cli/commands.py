"""The commands of `edgeai`, their options and examples; what they do is in the module of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Camera detection and voice recognition on this device, reported over MQTT.",
    epilog="Example: edgeai doctor",
)
bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure this machine.",
    epilog="Example: edgeai bench engines --bundle commands",
)
bundle_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look into a model bundle.",
    epilog="Example: edgeai bundle show person-detector",
)
engine_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="TensorRT engines, built on this device.",
    epilog="Example: edgeai engine build person-detector",
)
app.add_typer(bench_app, name="bench")
app.add_typer(engine_app, name="engine")
app.add_typer(bundle_app, name="bundle")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output: JSON on standard output.")]
# Optional, not `| None`: typer reads these annotations on Python 3.10 too
Model = Annotated[str, typer.Option("--bundle", "-b", help="A bundle's folder, or the name of a zoo model.")]
EngineChoice = Annotated[
    str | None,
    typer.Option("--engine", help='An engine file of the bundle: "onnx", "tflite/float16" or its path.'),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare each engine with its bundle's golden outputs first.")
]
Cache = Annotated[Path | None, typer.Option("--cache", help="The folder of built engines.")]
Threads = Annotated[int, typer.Option("--threads", min=1, max=64, help="Threads of the engine.")]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"edgeai {__version__}")
        raise typer.Exit()


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The device's configuration, TOML.")],
    verify: Verify = False,
    json_output: Json = False,
) -> int:
    """Run what a configuration describes until its sources end, or Ctrl-C.

    Example: edgeai run firmware_configs/examples/gate.toml
    """
    from edgeai.cli.run import run_device

    return run_device(config, verify=verify, json_output=json_output)


@app.command()
def detect(
    video: Annotated[str, typer.Argument(help="A video, a picture, or a folder of pictures.")],
    bundle: Model = "person-detector",
    engine: EngineChoice = None,
    threads: Threads = 1,
    threshold: Annotated[float | None, typer.Option(min=0.01, max=0.99, help="Least score.")] = None,
    annotated: Annotated[
        Path | None,
        typer.Option("--annotated", help="Write an annotated video here, MP4."),
    ] = None,
    verify: Verify = False,
    json_output: Json = False,
) -> int:
    """Find and track objects in a video; with --json one line a frame.

    Example: edgeai detect street.mp4 --bundle person-detector --json
    """
    from edgeai.cli.detect import detect_video

    return detect_video(
        video,
        bundle,
        engine=engine,
        threads=threads,
        threshold=threshold,
        annotated=annotated,
        verify=verify,
        json_output=json_output,
    )


@app.command()
def listen(
    source: Annotated[str, typer.Argument(help='A sound file, "mic", or "mic:<index or name>".')] = "mic",
    bundle: Model = "commands",
    engine: EngineChoice = None,
    threshold: Annotated[float | None, typer.Option(min=0.01, max=1.0, help="Least score.")] = None,
    verify: Verify = False,
    json_output: Json = False,
) -> int:
    """Listen for keywords in a file or a microphone; with --json one line a keyword.

    Example: edgeai listen mic --bundle commands
    """
    from edgeai.cli.listen import listen_to

    return listen_to(
        source, bundle, engine=engine, threshold=threshold, verify=verify, json_output=json_output
    )


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The configuration to check.")],
    probe: Annotated[bool, typer.Option("--probe", help="Open every model and source too.")] = False,
    json_output: Json = False,
) -> int:
    """Check a configuration without running it: keys, values, models and files.

    Example: edgeai check firmware_configs/examples/gate.toml --probe
    """
    from edgeai.cli.check import check_config

    return check_config(config, probe=probe, json_output=json_output)


@app.command()
def doctor(json_output: Json = False) -> int:
    """Tell what can run on this machine, what is missing, and the command that fixes it.

    Example: edgeai doctor
    """
    from edgeai.cli.doctor import doctor as run_doctor

    return run_doctor(json_output)


@bundle_app.command("show")
def bundle_show(
    where: Annotated[str, typer.Argument(help="Folder or zoo name.")], json_output: Json = False
) -> int:
    """Print what a bundle is, what it needs and what was measured.

    Example: edgeai bundle show person-detector
    """
    from edgeai.cli.bundle import show_bundle

    return show_bundle(where, json_output=json_output)


@bundle_app.command("verify")
def bundle_verify(
    where: Annotated[str, typer.Argument(help="Folder or zoo name.")], json_output: Json = False
) -> int:
    """Check every file's hash, and run every engine file that can run here on the golden input.

    Example: edgeai bundle verify person-detector
    """
    from edgeai.cli.bundle import verify_bundle

    return verify_bundle(where, json_output=json_output)


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


@bench_app.command("engines")
def bench_engines(
    bundle: Model = "person-detector",
    engine: EngineChoice = None,
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, max=100_000, help="Calls of each engine file.")] = 200,
    json_output: Json = False,
) -> int:
    """Time every engine file of a bundle, and our wrapper's cost beside the bare library.

    Example: edgeai bench engines --bundle commands
    """
    from edgeai.cli.bench import bench_engines as measure

    return measure(bundle, threads=threads, runs=runs, file=engine, json_output=json_output)


@bench_app.command("pipeline")
def bench_pipeline(
    video: Annotated[str, typer.Argument(help="A video to take frames from.")],
    bundle: Model = "person-detector",
    engine: EngineChoice = None,
    threads: Threads = 1,
    frames: Annotated[
        int, typer.Option(min=1, max=100_000, help="Frames to time, from the beginning again at its end.")
    ] = 100,
    json_output: Json = False,
) -> int:
    """Time the whole way of a frame beside the engine call alone.

    Example: edgeai bench pipeline street.mp4 --bundle person-detector
    """
    from edgeai.cli.bench_pipeline import bench_pipeline as measure

    return measure(video, bundle, engine=engine, threads=threads, frames=frames, json_output=json_output)


@bench_app.command("audio")
def bench_audio(
    file: Annotated[str | None, typer.Argument(help="A sound file; noise where absent.")] = None,
    bundle: Model = "commands",
    engine: EngineChoice = None,
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How much sound.")] = 60.0,
    json_output: Json = False,
) -> int:
    """Time front end, engine and smoothing on continuous sound.

    Example: edgeai bench audio --seconds 30 --bundle commands
    """
    from edgeai.cli.bench_audio import bench_audio as measure

    return measure(file, bundle, engine=engine, threads=threads, seconds=seconds, json_output=json_output)


@bench_app.command("mqtt")
def bench_mqtt(
    host: Annotated[
        str | None,
        typer.Option(help="A broker; without, mosquitto is started on this machine."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 1883,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where to write: the disk that the outbox shall use."),
    ] = None,
    messages: Annotated[int, typer.Option(min=100, max=1_000_000, help="How many.")] = 5000,
    json_output: Json = False,
) -> int:
    """Time the outbox: events made durable, and delivered to a broker.

    Example: edgeai bench mqtt --folder /var/lib/edgeai
    """
    from edgeai.cli.bench_mqtt import bench_mqtt as measure

    return measure(host=host, port=port, folder=folder, messages=messages, json_output=json_output)
