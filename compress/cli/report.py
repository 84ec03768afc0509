"""`edgeai-compress report`: a page about a bundle."""

from __future__ import annotations

from pathlib import Path

from compress.report.bundle import write_bundle_report
from edgeai.bundle import load_bundle
from edgeai.console import print_json


def default_report(name: str) -> Path:
    """Where a bundle's report goes unless somebody says otherwise, below the working folder."""
    return Path("out/reports") / f"{name}.html"


def report_bundle(where: str, *, out: Path | None = None, json_output: bool = False) -> int:
    """Write the report and say where it is. Raises BundleError, or EdgeError where it cannot be written."""
    bundle = load_bundle(where)
    path = write_bundle_report(bundle, out or default_report(bundle.name))
    if json_output:
        print_json({"report": str(path), "bytes": path.stat().st_size})
    else:
        print(path)
    return 0
