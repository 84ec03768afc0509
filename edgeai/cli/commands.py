"""The commands of `edgeai`, their options and examples; what they do is in the module of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai import __version__
from edgeai.cli.bench_commands import bench_app
from edgeai.cli.engine_commands import engine_app
from edgeai.cli.mqtt_commands import mqtt_app
from edgeai.cli.options import EngineChoice, Json, Model, Threads, Verify
from edgeai.cli.outbox_commands import outbox_app
from edgeai.cli.schema_commands import schema_app
from edgeai.cli.serve_command import serve

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Camera detection and voice recognition on this device, reported over MQTT.",
    epilog="Example: edgeai doctor",
)
bundle_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look into a model bundle.",
    epilog="Example: edgeai bundle show person-detector",
)
app.add_typer(bench_app, name="bench")
app.add_typer(engine_app, name="engine")
app.add_typer(bundle_app, name="bundle")
app.add_typer(schema_app, name="schema")
app.add_typer(mqtt_app, name="mqtt")
app.add_typer(outbox_app, name="outbox")
app.command()(serve)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"edgeai {__version__}")
        raise typer.Exit()


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="The device's configuration, TOML.")],
    verify: Verify = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="For read-only fleets: a warning of `edgeai check`, a camera without a picture or a stream that fails "
            "ends it with an error; no configuration is taken over MQTT.",
        ),
    ] = False,
    json_output: Json = False,
) -> int:
    """Run what a configuration describes until its sources end, or Ctrl-C.

    Example: edgeai run firmware_configs/examples/gate.toml
    """
    from edgeai.cli.run import run_device

    return run_device(config, verify=verify, strict=strict, json_output=json_output)


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
    probe: Annotated[
        bool, typer.Option("--probe", help="Open every model and source too, and tell what they give.")
    ] = False,
    snapshots: Annotated[
        Path | None,
        typer.Option("--snapshots", help="Probe, and write a JPEG of each camera into this folder."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Take no warning, as `edgeai run --strict`.")
    ] = False,
    json_output: Json = False,
) -> int:
    """Check a configuration without running it: keys, values, models and files; every fault, a line each.

    Example: edgeai check firmware_configs/examples/gate.toml --probe
    """
    from edgeai.cli.check import check_config

    return check_config(config, probe=probe, strict=strict, snapshots=snapshots, json_output=json_output)


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
