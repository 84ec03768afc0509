"""`edgeai-devices`: what is known about the boards, and how sure it is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeai.console import print_json, print_table, run_app
from edgeai.profile import Fact, Profile, list_profiles, load_profile
from edgeai.types import JsonValue

app = typer.Typer(
    name="edgeai-devices",
    help="Facts about boards.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on one line.")]
NEVER_RUN = "never run on a board"


@app.callback()
def _edgeai_devices() -> None:
    """Facts about boards: what is known, where it was read, how sure it is."""


@app.command("list")
def list_command(json_output: Json = False) -> None:
    """All device profiles."""
    profiles = list_profiles()
    if json_output:
        print_json({"profiles": [_row(profile) for profile in profiles]})
        return
    rows = [
        (
            profile.name,
            _sm(profile),
            " ".join(name for name in profile.precisions.value if name != "float32"),
            _l4t_lines(profile),
            len(profile.unconfirmed),
        )
        for profile in profiles
    ]
    print_table(("profile", "SM", "besides float32", "L4T", "unsure"), rows)
    tested = [profile.name for profile in profiles if profile.tested]
    print(f"{NEVER_RUN}: all but {', '.join(tested)}. `edgeai-devices show NAME` gives each fact's source.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A profile's name, or a .toml file.")], json_output: Json = False
) -> None:
    """Each fact of one profile with its source and mark."""
    profile = load_profile(name)
    if json_output:
        print_json(profile.model_dump(mode="json") | {"unconfirmed": list(profile.unconfirmed)})
        return
    print(f"{profile.title}: {f'run on {profile.tested}' if profile.tested else NEVER_RUN}")
    if profile.notes:
        print(profile.notes)
    for key, fact in profile.facts().items():
        print(f"  {key:26}{_text(fact)}")
        print(f"{'':28}{fact.mark}: {fact.source}")
    if profile.unconfirmed:
        print(f"unconfirmed, ask the board: {', '.join(profile.unconfirmed)}")


def _row(profile: Profile) -> dict[str, JsonValue]:
    return {
        "name": profile.name,
        "family": profile.family,
        "sm": profile.sm.value if profile.sm else None,
        "precisions": list(profile.precisions.value),
        "l4t": list(profile.l4t.value) if profile.l4t else [],
        "unconfirmed": list(profile.unconfirmed),
    }


def _l4t_lines(profile: Profile) -> str:
    releases = profile.l4t.value if profile.l4t else ()
    return " ".join(dict.fromkeys(release.partition(".")[0] for release in releases)) or "-"


def _sm(profile: Profile) -> str:
    if profile.sm_from == "nvml":
        return "asked"
    return str(profile.sm.value) if profile.sm else "-"


def _text(fact: Fact[object]) -> str:
    return ", ".join(map(str, fact.value)) if isinstance(fact.value, tuple) else str(fact.value)


def main() -> None:
    """Entry point of `edgeai-devices`."""
    sys.exit(run_app(app, program="edgeai-devices"))
