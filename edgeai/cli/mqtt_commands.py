"""The commands of `edgeai mqtt`, their options and examples; what they do is in the module of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai.cli.options import Json

mqtt_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What devices report over MQTT.",
    epilog="Example: edgeai mqtt watch --host broker.local",
)


@mqtt_app.command("watch")
def mqtt_watch(
    host: Annotated[str | None, typer.Option(help="The broker; this machine where absent.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its port; 1883, with TLS 8883.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Take broker, TLS and credentials from a device's configuration."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="TLS with the system's authorities.")] = False,
    ca: Annotated[Path | None, typer.Option(help="TLS with these authorities, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The watcher's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    username: Annotated[str | None, typer.Option(help="User name at the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password on its first line.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    stream: Annotated[str | None, typer.Option(help="Only this camera or microphone.")] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="Only events of this type, as line_crossed.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Only event, telemetry, image, health, info, state, cmd, ack, cfg or ota; may be given again.",
        ),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Subscribe to this MQTT filter instead of the devices' tree.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many lines.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, max=1e9, help="End after so long; 1 where --count asked for more lines."),
    ] = None,
    save_images: Annotated[
        Path | None, typer.Option("--save-images", help="Write pictures into this folder.")
    ] = None,
    json_output: Json = False,
) -> int:
    """Show what devices report as it comes, one line each; at the end what was doubled, late or missing.

    Latency is from the event to here; "~" where the device does not know whether its clock is right, none where it is
    wrong. Numbers that did not come are told only where all of a device's messages are watched.

    Where the broker ties the client id to the certificate, as firmware_configs/mosquitto does, a device's own
    certificate would throw the device out: give the watcher one of its own.

    Example: edgeai mqtt watch --host broker.local --device gate-1 --class event
    """
    from edgeai.cli.mqtt_watch import Access, watch

    access = Access(
        host=host,
        port=port,
        config=config,
        tls=tls,
        ca=ca,
        certificate=certificate,
        key=key,
        username=username,
        password_file=password_file,
    )
    return watch(
        access,
        device=device,
        stream=stream,
        type_=type_,
        classes=classes or [],
        topic=topic,
        count=count,
        seconds=seconds,
        save_images=save_images,
        json_output=json_output,
    )
