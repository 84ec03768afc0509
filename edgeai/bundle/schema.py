"""From the bytes of manifest.json to a Manifest: limits, schema upgrades, and errors that name the key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from edgeai.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SCHEMA, Manifest
from edgeai.errors import BundleManifestError
from edgeai.faults import describe_fault, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

# {n: what turns a manifest of schema n into one of n + 1}; pure, and never edited once released.
UPGRADES: dict[int, Upgrade] = {}

_SHOWN_FAULTS = 3
_LINE_FEED = b"\n"


def parse_manifest(text: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
    """Read, upgrade and validate a manifest. `where` names the file in errors.

    Raises BundleManifestError for anything else than a JSON object of a known schema that fits `Manifest`.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleManifestError(f"{where}: {len(text)} bytes, the limit is {MAX_MANIFEST_BYTES}")
    if not text.strip():
        raise BundleManifestError(f"{where}: empty", next_step="copy the bundle again")
    try:
        raw = json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except RecursionError:
        raise BundleManifestError(f"{where}: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BundleManifestError(
            f"{where}:{error.lineno}: not JSON ({error.msg}); is the file truncated?",
            next_step="copy the bundle again",
        ) from None
    except ValueError as error:  # not UTF-8, a key twice, NaN, a number of thousands of digits
        raise BundleManifestError(f"{where}: not JSON ({str(error)[:200]})") from None
    if not isinstance(raw, dict):
        raise BundleManifestError(f"{where}: must be a JSON object, is a {type(raw).__name__}")
    raw = upgrade_manifest(raw, where=where)
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleManifestError(f"{where}: {_faults(error, text)}") from None
    except RecursionError:
        raise BundleManifestError(f"{where}: nested too deeply") from None


def upgrade_manifest(
    raw: dict[str, Any],
    *,
    where: str = MANIFEST_NAME,
    upgrades: Mapping[int, Upgrade] = UPGRADES,
    to: int = SCHEMA,
) -> dict[str, Any]:
    """`raw` brought to schema `to`, one upgrade a step; `raw` itself is left alone.

    Raises BundleManifestError where the number is absent, newer than `to`, or has no upgrade.
    """
    schema = raw.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise BundleManifestError(f"{where}: the key 'schema' must be a whole number, is {shown(schema)}")
    if schema > to:
        raise BundleManifestError(
            f"{where}: schema {schema} is newer than this edgeai reads ({to})",
            next_step="pip install -U edgeai",
        )
    while schema < to:
        if schema not in upgrades:
            raise BundleManifestError(
                f"{where}: schema {schema} is not known", next_step="export the bundle again"
            )
        raw = {**upgrades[schema](dict(raw)), "schema": schema + 1}
        schema += 1
    return raw


def dump_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented UTF-8 JSON with a line feed at the end; parse_manifest reads the same back."""
    fields = manifest.model_dump(mode="json", by_alias=True)
    return (json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def validate_fields(fields: Mapping[str, Any], *, where: str) -> Manifest:
    """A Manifest from plain fields (the writer's side). Raises BundleManifestError."""
    try:
        return Manifest.model_validate(dict(fields))
    except ValidationError as error:
        raise BundleManifestError(f"{where}: {_faults(error, b'')}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _faults(error: ValidationError, text: bytes) -> str:
    faults = [_fault(fault, text) for fault in error.errors(include_url=False)]
    more = f", and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
    return ", ".join(faults[:_SHOWN_FAULTS]) + more


def _fault(fault: ErrorDetails, text: bytes) -> str:
    path, what = describe_fault(fault, Manifest)
    return _line_of(path, text) + what


def _line_of(loc: tuple[int | str, ...], text: bytes) -> str:
    """The prefix "line 7: " where the key stands in the text once only; a key that stands twice has no certain line."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return ""
    found = list(re.finditer(rb'"%s"\s*:' % re.escape(names[-1].encode("utf-8", "replace")), text))
    return f"line {text.count(_LINE_FEED, 0, found[0].start()) + 1}: " if len(found) == 1 else ""
