"""`edgeai engine build|list|clear`: the engines that are made on this device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.golden import check_golden
from edgeai.cli.host import this_host
from edgeai.config import EnginesSettings, load_config
from edgeai.console import print_json, print_note, print_table
from edgeai.engines import Candidate, EngineHost, check_library, open_candidate, order_candidates
from edgeai.engines.plans.provide import plan_cache
from edgeai.errors import EdgeError, EngineError, UsageError
from edgeai.types import JsonValue


@dataclass(frozen=True, slots=True)
class _Built:
    """One candidate's result. golden: its error against the golden outputs, None where the bundle has none."""

    bundle: str
    label: str
    seconds: float = 0.0
    golden: float | None = None
    error: EdgeError | None = None

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "bundle": self.bundle,
            "engine": self.label,
            "seconds": round(self.seconds, 2),
            "golden_error": self.golden,
            "error": None if self.error is None else str(self.error),
        }


def build_engines(
    bundles: Sequence[str],
    *,
    config: Path | None,
    every: bool,
    cache: Path | None,
    dla: int | None,
    json_output: bool,
) -> int:
    """Build and check the plans of bundles, or of all that a configuration names; 1 where one failed.

    every: all of a bundle's ONNX files, not only the one that would be run. Raises UsageError where nothing is named,
    EngineUnavailableError where plans cannot be built here at all.
    """
    settings = EnginesSettings()
    names = list(bundles)
    if config is not None:
        loaded = load_config(config)
        settings = loaded.engines
        names += [camera.model for camera in loaded.cameras]
        names += [microphone.model for microphone in loaded.microphones]
    if not names:
        raise UsageError("nothing to build", next_step="name bundles, or --config FILE")
    host = this_host(settings, cache=cache)
    host = replace(host, dla=host.dla if dla is None else dla)
    check_library("plan", host)
    results = [result for name in dict.fromkeys(names) for result in _build_bundle(name, every, host)]
    failed = any(each.error is not None for each in results)
    if json_output:
        print_json({"ok": not failed, "cache": str(host.cache), "engines": [e.to_json() for e in results]})
        return int(failed)
    rows = [
        [each.bundle, each.label, f"{each.seconds:.1f}", _golden(each), "no" if each.error else "yes"]
        for each in results
    ]
    print_table(["bundle", "engine", "seconds", "golden error", "ready"], rows, title=f"in {host.cache}")
    for each in results:
        if each.error is not None:
            print_note(f"{each.bundle} {each.label}: {each.error}")
    return int(failed)


def list_engines(*, cache: Path | None, json_output: bool) -> int:
    """Print the plans that are kept, the last used first."""
    host = this_host(cache=cache)
    plans = plan_cache(host).kept()
    if json_output:
        print_json(
            {
                "cache": str(host.cache),
                "plans": [
                    {"key": p.key, "bytes": p.bytes, "used_s": round(p.used_s, 3), "facts": dict(p.facts)}
                    for p in plans
                ],
            }
        )
        return 0
    if not plans:
        print(f"no plans are kept in {host.cache}; `edgeai engine build BUNDLE` builds some")
        return 0
    rows = [
        [
            p.facts.get("name", p.key[:12]),
            p.facts.get("tensorrt", "?"),
            p.facts.get("gpu", "?"),
            f"{p.bytes:,}",
            datetime.fromtimestamp(p.used_s).strftime("%Y-%m-%d %H:%M"),
        ]
        for p in plans
    ]
    print_table(["file", "TensorRT", "GPU", "bytes", "last used"], rows, title=f"in {host.cache}")
    return 0


def clear_engines(*, cache: Path | None, everything: bool, json_output: bool) -> int:
    """Remove the plans that are kept, and what they cost to time with `everything`. They are built again when needed."""
    host = this_host(cache=cache)
    count, size = plan_cache(host).clear(everything=everything)
    if json_output:
        print_json({"cache": str(host.cache), "files": count, "bytes": size})
    else:
        print(f"removed {count} files, {size:,} bytes, from {host.cache}")
    return 0


def _plans(bundle: Bundle, every: bool, host: EngineHost) -> list[Candidate]:
    found = [
        c for c in order_candidates(bundle, host=host, file="plan").candidates if c.entry.format == "onnx"
    ]
    if not found:
        raise EngineError(
            f"bundle {bundle.name} has no ONNX file to build a plan from",
            next_step='add "onnx/int8" to its recipe\'s exports',
        )
    return found if every else found[:1]


def _build_bundle(name: str, every: bool, host: EngineHost) -> list[_Built]:
    try:
        bundle = load_bundle(name)
        plans = _plans(bundle, every, host)
    except EdgeError as error:  # the others may still be built
        return [_Built(name, "-", error=error)]
    return [_build(bundle, candidate, host) for candidate in plans]


def _build(bundle: Bundle, candidate: Candidate, host: EngineHost) -> _Built:
    began_s = time.monotonic()
    try:
        with open_candidate(bundle, candidate, host=replace(host, verify=False)) as engine:
            seconds = time.monotonic() - began_s
            golden = None
            if bundle.manifest.golden is not None:
                golden = max(check_golden(bundle, candidate.entry, engine).values())
    except EdgeError as error:
        return _Built(bundle.name, candidate.label, time.monotonic() - began_s, error=error)
    return _Built(bundle.name, candidate.label, seconds, golden)


def _golden(built: _Built) -> str:
    return "-" if built.golden is None else f"{built.golden:.4f}"
