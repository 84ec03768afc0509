"""What runs, as figures for Prometheus over HTTP: optional, read-only, and read at each scrape from counters that are there."""

from __future__ import annotations

from edgeai.exporter.exporter import Exporter, check_library
from edgeai.exporter.figures import EngineFigures, StreamFigures, figures_of, figures_of_group

__all__ = [
    "EngineFigures",
    "Exporter",
    "StreamFigures",
    "check_library",
    "figures_of",
    "figures_of_group",
]
