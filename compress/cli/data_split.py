"""`edgeai-compress data split`: parts a list by groups, and says how near it came."""

from __future__ import annotations

from pathlib import Path

from compress.data.grouping import parse_parts, split_set
from edgeai.console import print_json, print_table


def split_folder(
    folder: Path,
    *,
    source: str,
    by: str,
    parts: str,
    seed: int,
    out: Path | None,
    force: bool,
    json_output: bool = False,
) -> int:
    """Write the lists and print them. Raises EdgeError."""
    made = split_set(folder, parse_parts(parts), source=source, by=by, seed=seed, out=out, force=force)
    if json_output:
        rows = [
            {
                "name": part.name,
                "path": str(part.path),
                "files": part.files,
                "groups": part.groups,
                "wanted": part.wanted,
                "share": round(part.got, 4),
                "classes": part.classes,
            }
            for part in made
        ]
        print_json({"folder": str(folder), "from": source, "by": by, "seed": seed, "parts": rows})
        return 0
    print_table(
        ["part", "files", "groups", "wanted", "got"],
        [[p.name, f"{p.files:,}", f"{p.groups:,}", f"{p.wanted:.1%}", f"{p.got:.1%}"] for p in made],
        title=f"{source} by {by}",
    )
    labels = list(made[0].classes)
    totals = {label: sum(part.classes[label] for part in made) for label in labels}
    if 0 < len(labels) <= 100:
        print_table(
            ["class", *(part.name for part in made)],
            [
                [label, *(f"{p.classes[label]:,} ({p.classes[label] / totals[label]:.0%})" for p in made)]
                for label in labels
            ],
        )
    for part in made:
        print(part.path)
    return 0
