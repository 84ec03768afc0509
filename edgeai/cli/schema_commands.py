"""The commands of `edgeai schema`: what travels over MQTT, and what a configuration holds, for people and for validators."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from edgeai.cli.options import Json

schema_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="JSON Schemas of the messages and of the configuration, and the topics that carry messages.",
    epilog="Example: edgeai schema events --type line_crossed",
)


@schema_app.command("events")
def schema_events(
    type_: Annotated[
        str | None, typer.Option("--type", help="One kind of message: its schema, whole.")
    ] = None,
    json_output: Json = False,
) -> int:
    """List every kind of message, or print its JSON Schema; with --json all of them, by name.

    Example: edgeai schema events --type line_crossed
    """
    from edgeai.console import print_json, print_table
    from edgeai.sinks.schemas import SCHEMAS, schema_of

    if type_ is not None:
        schema = schema_of(type_)
        if json_output:
            print_json(schema)
        else:
            typer.echo(json.dumps(schema, indent=2, ensure_ascii=True))
    elif json_output:
        print_json(SCHEMAS)
    else:
        rows = [
            (name, _short(str(one["x-topic"])), one["x-qos"], "yes" if one["x-retained"] else "no")
            for name, one in SCHEMAS.items()
        ]
        print_table(("name", "topic", "QoS", "retained"), rows)
    return 0


@schema_app.command("config")
def schema_config(json_output: Json = False) -> int:
    """Print the JSON Schema of the configuration, for an editor that completes and explains its keys; --json on one line.

    Example: edgeai schema config > edgeai.schema.json
    """
    from edgeai.config_schema import config_schema
    from edgeai.console import print_json

    schema = config_schema()
    if json_output:
        print_json(schema)
    else:
        typer.echo(json.dumps(schema, indent=2, ensure_ascii=True))
    return 0


@schema_app.command("topics")
def schema_topics(json_output: Json = False) -> int:
    """List every topic: who sends on it, how it travels, and the schemas of its messages.

    Example: edgeai schema topics --json
    """
    import dataclasses

    from edgeai.console import print_json, print_table
    from edgeai.sinks.schemas import TOPICS

    if json_output:
        print_json([dataclasses.asdict(one) for one in TOPICS])
        return 0
    rows = [
        (
            _short(one.topic),
            one.sender,
            one.qos,
            "yes" if one.retained else "no",
            ", ".join(one.schemas) or one.content,
        )
        for one in TOPICS
    ]
    print_table(
        ("topic", "sender", "QoS", "retained", "schemas"),
        rows,
        title="below edge/v1/<tenant>/<site>/<device>/",
    )
    return 0


def _short(topic: str) -> str:
    """The topic below the device's root."""
    return topic.split("<device>/", 1)[1]
