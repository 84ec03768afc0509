"""`edgeai bundle show|verify`: what is in a bundle, and whether it is whole and right on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from edgeai.bundle import Bundle, load_bundle
from edgeai.bundle.bundle import verify_file
from edgeai.bundle.golden import check_golden
from edgeai.bundle.manifest import FileEntry, ImageInput
from edgeai.console import print_json, print_table
from edgeai.engines import open_file
from edgeai.errors import EdgeError, EngineUnavailableError
from edgeai.types import JsonValue


@dataclass(slots=True)
class FileCheck:
    """One file's result. golden: each output's error as a fraction of its range; None where nothing was compared."""

    entry: FileEntry
    golden: dict[str, float] | None = None
    note: str = ""
    error: EdgeError | None = field(default=None)

    @property
    def state(self) -> str:
        return "ok" if self.error is None else "bad"

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "path": self.entry.path,
            "format": self.entry.format,
            "precision": self.entry.precision,
            "bytes": self.entry.bytes,
            "ok": self.error is None,
            "golden": cast("JsonValue", self.golden),
            "tolerance": self.entry.tolerance if self.entry.format else None,
            "note": self.note,
            "error": None if self.error is None else str(self.error),
        }


def show_bundle(where: str, *, json_output: bool = False) -> int:
    """Print what the manifest says; files are not read (`verify` does). Raises BundleError and its children."""
    bundle = load_bundle(where, verify=False)
    manifest = bundle.manifest
    if json_output:
        print_json(
            {"folder": str(bundle.folder), "manifest": manifest.model_dump(mode="json", by_alias=True)}
        )
        return 0
    print(
        f"{manifest.name} {manifest.version}: {manifest.task}, {_input_line(bundle)}, decoder {manifest.decoder.name}"
    )
    print(f"{len(manifest.labels)} labels: {_shortened(', '.join(manifest.labels))}")
    print_table(
        ["file", "engine", "bytes", "sha256"],
        [[entry.path, _kind(entry), f"{entry.bytes:,}", entry.sha256[:12]] for entry in manifest.files],
    )
    if manifest.measured:
        rows = [[m.metric, f"{m.value:g}", m.file, m.data, m.device, m.date] for m in manifest.measured]
        print_table(["measured", "value", "file", "data", "device", "date"], rows)
    print(f"licence: {manifest.licence or 'not told'}")
    return 0


def verify_bundle(where: str, *, threads: int = 1, json_output: bool = False) -> int:
    """Check size and SHA-256 of every file, and the golden outputs on every engine file that can run here.

    Prints all results first. Raises the first fault found, so that the command ends with its one line.
    """
    bundle = load_bundle(where, verify=False)
    checks = check_files(bundle, threads=threads)
    faults = [check.error for check in checks if check.error is not None]
    if json_output:
        files = cast("JsonValue", [check.to_json() for check in checks])
        print_json({"bundle": bundle.name, "folder": str(bundle.folder), "ok": not faults, "files": files})
    else:
        rows = [
            [c.entry.path, _kind(c.entry), f"{c.entry.bytes:,}", _golden_cell(c), c.state] for c in checks
        ]
        print_table(
            ["file", "engine", "bytes", "golden error", "state"],
            rows,
            title=f"{bundle.name} in {bundle.folder}",
        )
        for check in checks:
            if check.note:
                print(f"{check.entry.path}: {check.note}")
        for fault in faults[1:]:
            print(fault)
    if faults:
        raise faults[0]
    return 0


def check_files(bundle: Bundle, *, threads: int = 1) -> list[FileCheck]:
    """The checks of `edgeai bundle verify`, one result a file, in the manifest's order; nothing is raised."""
    checks = [_check_hash(bundle, entry) for entry in bundle.manifest.files]
    golden = bundle.manifest.golden
    golden_whole = any(check.entry.path == golden and check.error is None for check in checks)
    for check in checks:
        # a changed engine file is never opened: it can crash its interpreter
        if check.entry.format is None or check.error is not None:
            continue
        if golden is None:
            check.note = "not compared: the bundle has no golden file"
        elif golden_whole:
            _check_engine(bundle, check, threads)
    return checks


def _check_hash(bundle: Bundle, entry: FileEntry) -> FileCheck:
    try:
        verify_file(bundle.folder, entry)
    except EdgeError as error:
        return FileCheck(entry, error=error)
    return FileCheck(entry)


def _check_engine(bundle: Bundle, check: FileCheck, threads: int) -> None:
    try:
        with open_file(bundle, check.entry, threads=threads) as engine:
            check.golden = check_golden(bundle, check.entry, engine)
    except EngineUnavailableError as error:
        check.note = f"not run here: {error}"
    except EdgeError as error:
        check.error = error


def _golden_cell(check: FileCheck) -> str:
    if check.golden is None:
        return "-"
    return f"{max(check.golden.values()):.4f} of {check.entry.tolerance:g}"


def _kind(entry: FileEntry) -> str:
    return f"{entry.format}/{entry.precision}" if entry.format else "-"


def _input_line(bundle: Bundle) -> str:
    contract = bundle.manifest.input
    if isinstance(contract, ImageInput):
        return f"{contract.width}x{contract.height} {contract.colour} {contract.layout} {contract.resize}"
    return f"{contract.frames} frames of {contract.mels} mels at {contract.sample_rate_hz} Hz"


def _shortened(text: str) -> str:
    return text if len(text) <= 70 else text[:69] + "…"
