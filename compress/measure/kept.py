"""What a manifest keeps of an engine file that was measured."""

from __future__ import annotations

from compress.measure.metric import Metric
from edgeai.bundle.manifest import Measured

CALL = "the engine call alone, one thread"
FALSE_ACCEPTS, HOURS = "false_accepts", "negative_hours"


def other_sound(data: str) -> str:
    """What stands in a manifest for the sound that a wake word is not in, beside `data`."""
    return f"{data} and other sound"


def measured_fields(
    file: str, metric: Metric, ms: float, *, data: str, device: str, date: str, prefix: str = ""
) -> list[Measured]:
    """The metric on `data` and the milliseconds of a call; of a wake word also its false accepts, and the hours of sound that they
    are of. file: its path in the bundle. prefix: of the metric's name.
    """
    low, high = (round(end, 4) for end in metric.ci95)
    where = {"file": file, "device": device, "date": date}
    heard = [
        Measured(metric=name, value=float(metric.details[name]), data=other_sound(data), **where)
        for name in (FALSE_ACCEPTS, HOURS)
        if metric.details.get(HOURS)
    ]
    return [
        Measured(
            metric=f"{prefix}{metric.name}",
            value=round(metric.value, 4),
            ci95=(low, high),
            n=metric.n,
            data=data,
            **where,
        ),
        *heard,
        Measured(metric="ms_p50", value=round(ms, 4), n=100, data=CALL, **where),
    ]
