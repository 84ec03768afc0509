"""`edgeai-compress trt-check`: whether TensorRT takes a bundle's ONNX files, on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.export.trt_gate import GateReport, check_for_tensorrt
from edgeai.bundle import load_bundle
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import DataMissingError


def check_files(names: Sequence[str], *, json_output: bool = False) -> int:
    """Print what each file's check gave; 1 where one did not pass.

    names: ONNX files, bundles' folders or zoo models. Raises DataMissingError where a bundle has no ONNX file, and what
    check_for_tensorrt raises.
    """
    rows: list[dict[str, Any]] = []
    for path, quantized in [pair for name in names for pair in _files(name)]:
        report = check_for_tensorrt(path, quantized=quantized)
        rows.append({"file": str(path), "precision": "int8" if quantized else "float"} | report.to_json())
        if not json_output:
            for line in _lines(report):
                print_note(f"{path.name}: {line}")
    passed = all(row["passed"] for row in rows)
    if json_output:
        print_json({"passed": passed, "files": rows})
    else:
        print_table(("file", "passed", "built for", "seconds"), [_row(row) for row in rows])
    return 0 if passed else 1


def _files(name: str) -> list[tuple[Path, bool]]:
    """(path, whether it is meant to be quantized)."""
    if name.endswith(".onnx"):
        return [(Path(name), _has_pairs(Path(name)))]
    bundle = load_bundle(name)
    found = [
        (bundle.path(entry.path), entry.precision == "int8")
        for entry in bundle.manifest.engine_files
        if entry.format == "onnx"
    ]
    if not found:
        raise DataMissingError(
            f"bundle {bundle.name} holds no ONNX file",
            next_step='add an export pass with formats = ["onnx/int8"] to its recipe',
        )
    return found


def _has_pairs(path: Path) -> bool:
    """Whether the linter's rules are meant for a file: TensorRT takes float models too."""
    try:
        return b"QuantizeLinear" in path.read_bytes()
    except OSError:
        return True  # told as what it is by who reads it


def _lines(report: GateReport) -> list[str]:
    told = [f"{fault.node or 'model'}: {fault.text} ({fault.rule})" for fault in report.faults]
    return told + list(report.errors)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        Path(row["file"]).name,
        "yes" if row["passed"] else "no",
        ", ".join(row["engines"]) or "-",
        f"{row['seconds']:.1f}",
    )
