"""The commands of `edgeai bench`, their options and examples; what they do is in the module of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai.cli.options import Against, Cache, EngineChoice, Json, Markdown, Model, Threads

bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure this machine.",
    epilog="Example: edgeai bench engines --bundle commands",
)


@bench_app.command("engines")
def bench_engines(
    bundle: Model = "person-detector",
    engine: EngineChoice = None,
    threads: Annotated[
        str,
        typer.Option(help="Threads of an engine, as in 1,2: latency is of the first, throughput of each."),
    ] = "1",
    instances: Annotated[
        str, typer.Option(help="Engines at once in one process, as in 1,2: throughput of each.")
    ] = "1",
    batch: Annotated[
        str, typer.Option(help="Inputs a call, as in 1,8: throughput of each, where the file takes several.")
    ] = "1",
    runs: Annotated[int, typer.Option(min=1, max=100_000, help="Calls of each engine.")] = 200,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3600, help="Call each engine for so long instead, and so long for throughput."
        ),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Keep the medians: engines are then chosen by them on this machine."),
    ] = False,
    cache: Cache = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and plots here.")] = None,
    markdown: Markdown = None,
    compare: Against = None,
    json_output: Json = False,
) -> int:
    """Time every engine of a bundle beside the bare libraries: latency, throughput, memory, power, roofline.

    Each engine is in a process of its own, and all take turns in blocks of calls. A winner is named only where the
    difference is larger than the spread.

    Example: edgeai bench engines --bundle commands --html out/bench.html
    """
    from edgeai.bench.engines import EnginesSettings
    from edgeai.cli.bench_engines import bench_engines as measure
    from edgeai.cli.bench_engines import numbers
    from edgeai.cli.figures import Outputs

    settings = EnginesSettings(
        threads=numbers("--threads", threads),
        instances=numbers("--instances", instances),
        batch=numbers("--batch", batch),
        runs=runs,
        latency_s=seconds,
        window_s=0.5 if seconds is None else seconds,
    )
    return measure(
        bundle,
        settings,
        file=engine,
        save=save,
        cache=cache,
        outputs=Outputs(json_output, markdown, compare, html),
    )


@bench_app.command("pipeline")
def bench_pipeline(
    video: Annotated[str, typer.Argument(help="A video to take frames from.")],
    bundle: Model = "person-detector",
    engine: EngineChoice = None,
    threads: Threads = 1,
    frames: Annotated[
        int, typer.Option(min=1, max=100_000, help="Frames to time, from the beginning again at its end.")
    ] = 100,
    size: Annotated[
        str | None,
        typer.Option(help="Scale frames to this size, as in 1280x720; the video's own where absent."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the outbox lies: on the disk that it shall use.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Some parts, as in overhead,start: overhead, broker, freshness, memory, start."),
    ] = None,
    markdown: Markdown = None,
    compare: Against = None,
    json_output: Json = False,
) -> int:
    """Time cameras: their cost beside the engine call, the way to a broker, freshness, memory, first detection.

    Frames are decoded before, and go through capture, scheduler, stages and outbox as on a device at work.

    Example: edgeai bench pipeline street.mp4 --bundle person-detector --size 1280x720
    """
    from edgeai.cli.bench_pipeline import PipelineSettings, parse_parts, parse_size
    from edgeai.cli.bench_pipeline import bench_pipeline as measure
    from edgeai.cli.figures import Outputs

    settings = PipelineSettings(
        video=video,
        model=bundle,
        engine=engine,
        threads=threads,
        frames=frames,
        size=parse_size(size),
        folder=folder,
        parts=parse_parts(only),
    )
    return measure(settings, outputs=Outputs(json_output, markdown, compare))


@bench_app.command("tracking")
def bench_tracking(
    frames: Annotated[int, typer.Option(min=10, max=100_000, help="Frames of each number of objects.")] = 300,
    markdown: Markdown = None,
    compare: Against = None,
    json_output: Json = False,
) -> int:
    """Time the tracker on 20, 50, 100 and 500 moving objects.

    Example: edgeai bench tracking
    """
    from edgeai.cli.bench_tracking import bench_tracking as measure
    from edgeai.cli.figures import Outputs

    return measure(frames=frames, outputs=Outputs(json_output, markdown, compare))


@bench_app.command("audio")
def bench_audio(
    file: Annotated[str | None, typer.Argument(help="A sound file; noise where absent.")] = None,
    bundle: Model = "commands",
    engine: EngineChoice = None,
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How much sound.")] = 60.0,
    markdown: Markdown = None,
    compare: Against = None,
    json_output: Json = False,
) -> int:
    """Time front end, engine and smoothing on continuous sound.

    Example: edgeai bench audio --seconds 30 --bundle commands
    """
    from edgeai.cli.bench_audio import bench_audio as measure
    from edgeai.cli.figures import Outputs

    return measure(
        file,
        bundle,
        engine=engine,
        threads=threads,
        seconds=seconds,
        outputs=Outputs(json_output, markdown, compare),
    )


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
    markdown: Markdown = None,
    compare: Against = None,
    json_output: Json = False,
) -> int:
    """Time the outbox: events made durable, and delivered to a broker.

    Example: edgeai bench mqtt --folder /var/lib/edgeai
    """
    from edgeai.cli.bench_mqtt import bench_mqtt as measure
    from edgeai.cli.figures import Outputs

    return measure(
        host=host,
        port=port,
        folder=folder,
        messages=messages,
        outputs=Outputs(json_output, markdown, compare),
    )
