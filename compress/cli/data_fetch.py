"""`edgeai-compress data fetch`: public data sets by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.data.fetch import PublicSet, fetch_set, find_set, load_registry
from edgeai.console import print_json, print_table
from edgeai.errors import UsageError


def fetch_named(
    name: str | None,
    *,
    into: Path,
    source: str,
    accept: Sequence[str],
    show_list: bool,
    json_output: bool = False,
) -> int:
    """List the known sets, or fetch one. Raises EdgeError."""
    registry = load_registry()
    if show_list:
        return _list(list(registry.values()), json_output)
    if name is None:
        raise UsageError("name a set", next_step="see edgeai-compress data fetch --list")
    one = find_set(name, registry)
    made = fetch_set(one, into, source=source, accept=accept)
    if json_output:
        row = _as_json(one)
        print_json(
            {
                **row,
                "folder": str(made.folder),
                "fetched": made.fresh,
                "files": made.files,
                "sha256": made.hashes,
            }
        )
    elif made.fresh:
        print(f"{made.folder}: {made.files:,} files; licence: {one.licence}; {one.attribution}")
    else:
        print(f"{made.folder} is there already; licence: {one.licence}")
    return 0


def _list(sets: Sequence[PublicSet], json_output: bool) -> int:
    if json_output:
        print_json({"sets": [_as_json(one) for one in sets]})
        return 0
    rows = [
        [
            f"{one.name}: {one.what}\n  {one.licence}\n  {one.homepage}",
            f"{one.bytes / 1e6:,.0f} MB" if one.bytes else "?",
            "known" if one.verified else "not known",
        ]
        for one in sets
    ]
    print_table(["set", "download", "hash"], rows)
    return 0


def _as_json(one: PublicSet) -> dict[str, object]:
    return {
        "name": one.name,
        "what": one.what,
        "licence": one.licence,
        "attribution": one.attribution,
        "homepage": one.homepage,
        "bytes": one.bytes,
        "verified": one.verified,
        "urls": [file.url for file in one.files],
    }
