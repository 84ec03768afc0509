"""The commands of `edgeai outbox`, their options and examples; what they do is in edgeai.cli.outbox."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeai.cli.options import Json

outbox_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What waits for the broker: look at it, carry it on a USB stick.",
    epilog="Example: edgeai outbox status device.toml",
)
DeviceConfig = Annotated[Path, typer.Argument(help="The device's configuration, TOML.")]


@outbox_app.command("status")
def status(config: DeviceConfig, json_output: Json = False) -> int:
    """Tell what waits, for whom, since when, and what a metered link has cost today. The device may be running.

    Example: edgeai outbox status firmware_configs/examples/gate.toml
    """
    from edgeai.cli.outbox import show_status

    return show_status(config, json_output=json_output)


@outbox_app.command("export")
def export(
    config: DeviceConfig,
    file: Annotated[Path, typer.Argument(help="The file to write, on the stick.")],
    json_output: Json = False,
) -> int:
    """Copy what waits into a file. It stays in the outbox until `acknowledge`. The device may be running.

    Example: edgeai outbox export device.toml /media/stick/gate-1.carry
    """
    from edgeai.cli.outbox import export_outbox

    return export_outbox(config, file, json_output=json_output)


@outbox_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="The file that `export` wrote.")],
    config: Annotated[
        Path | None, typer.Option(help="A configuration whose [mqtt] says how the broker is reached.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="A broker, in place of --config.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 1883,
    key_file: Annotated[Path | None, typer.Option(help="The device's outbox key, where it has one.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long to try.")] = 600.0,
    json_output: Json = False,
) -> int:
    """Deliver a carried file to a broker and write the receipt beside it, FILE.receipt.json.

    Example: edgeai outbox import /media/stick/gate-1.carry --host broker.local
    """
    from edgeai.cli.outbox import import_carry

    return import_carry(
        file, config=config, host=host, port=port, key_file=key_file, seconds=seconds, json_output=json_output
    )


@outbox_app.command("acknowledge")
def acknowledge(
    config: DeviceConfig,
    receipt: Annotated[Path, typer.Argument(help="The receipt that `import` wrote.")],
    json_output: Json = False,
) -> int:
    """Delete from the outbox what a receipt says has arrived. The device may be running.

    Example: edgeai outbox acknowledge device.toml /media/stick/gate-1.carry.receipt.json
    """
    from edgeai.cli.outbox import acknowledge_receipt

    return acknowledge_receipt(config, receipt, json_output=json_output)
