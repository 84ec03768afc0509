"""`edgeai-compress new`: a first recipe for a folder of data."""

from __future__ import annotations

from pathlib import Path

import tomllib

from compress.draft import draft_recipe
from compress.recipe import parse_recipe
from edgeai.console import print_json
from edgeai.errors import UsageError
from edgeai.whole_file import write_whole


def write_draft(
    folder: Path,
    *,
    out: Path,
    split: str = "train",
    name: str | None = None,
    start: str | None = None,
    steps: int | None = None,
    size: int | None = None,
    force: bool = False,
    json_output: bool = False,
) -> int:
    """Write the recipe and say what to do with it. Raises what draft_recipe raises, and DataError for a wrong place."""
    if out.exists() and not force:
        raise UsageError(f"{out} is there already", next_step="name another file with --out, or give --force")
    draft = draft_recipe(folder, split=split, name=name, start=start, steps=steps, size=size)
    # a draft that cannot be run is our fault, and told at once
    parse_recipe(tomllib.loads(draft.text), where=str(out))
    write_whole(out, draft.text)
    if json_output:
        print_json(
            {
                "recipe": str(out),
                "task": draft.task,
                "labels": list(draft.labels),
                "examples": draft.examples,
                "data": str(folder.resolve().parent),
            }
        )
        return 0
    print(f"{out}: {draft.task}, {len(draft.labels)} labels, {draft.examples:,} examples")
    print(f"look it over, then: edgeai-compress run {out} --data {folder.resolve().parent}")
    return 0
