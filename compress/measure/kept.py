"""What a manifest keeps of an engine file that was measured."""

from __future__ import annotations

from compress.measure.metric import Metric
from edgeai.bundle.manifest import Measured

CALL = "the engine call alone, one thread"


def measured_fields(
    file: str, metric: Metric, ms: float, *, data: str, device: str, date: str, prefix: str = ""
) -> list[Measured]:
    """The metric on `data` and the milliseconds of a call. file: its path in the bundle. prefix: of the metric's name."""
    low, high = (round(end, 4) for end in metric.ci95)
    where = {"file": file, "device": device, "date": date}
    return [
        Measured(
            metric=f"{prefix}{metric.name}",
            value=round(metric.value, 4),
            ci95=(low, high),
            n=metric.n,
            data=data,
            **where,
        ),
        Measured(metric="ms_p50", value=round(ms, 4), n=100, data=CALL, **where),
    ]
