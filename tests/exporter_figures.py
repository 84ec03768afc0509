"""Figures of a device that has something of everything, and a reader of what an exporter tells of it."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from edgeai.exporter import EngineFigures, StreamFigures
from edgeai.metrics import Histogram, StageTimes
from edgeai.sinks.store_and_forward import Counters, DestinationCounters


def histogram(*seconds):
    made = Histogram()
    for each in seconds or (0.003, 0.02, 0.02, 30.0):
        made.add(each)
    return made.read()


def camera(name="gate", **changes):
    times = StageTimes()
    for each in (*times.stages.values(), times.whole):
        each.add(0.004)
    figures = {
        "frames": 100,
        "events": 7,
        "refused": 1,
        "dropped": {"too_fast": 5, "no_motion": 60},
        "stages": {stage: each.read() for stage, each in times.stages.items()},
        "whole": times.whole.read(),
        "captured": 170,
        "newest_age_s": 0.25,
        "replaced": 1,
        "connected": True,
        "connections": 3,
        "failures": 2,
    }
    return StreamFigures(name, "camera", changes.pop("state", "running"), **{**figures, **changes})


def microphone(name="door"):
    return StreamFigures(name, "microphone", "running", frames=40, events=2)


def engine(model="person", seconds=(0.01,), **changes):
    return EngineFigures(model, changes.pop("engine", "tflite"), histogram(*seconds), **changes)


def counters(latency=None):
    mqtt = DestinationCounters(
        9, 8, 1, 2, connected=True, problem="", pending=3, latency=latency or {"alarm": histogram()}
    )
    sink = DestinationCounters(4, 4, 0, 1, connected=False, problem="away", pending=2)
    return Counters(
        9, 8, 5, 1, {"image": 2, "alarm": 0}, 2, True, "", True,
        pending_bytes=500, oldest_s=1.25, destinations={"": mqtt, "sink:log": sink},
    )  # fmt: skip


def scrape(url, path="/metrics", **headers):
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=30) as answer:
        return answer.read().decode()


def samples(text):
    """{(name, frozenset of labels): value}, each series once."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def check_histograms(found):
    """Cumulative buckets rise, and the last one is the count."""
    series = {}
    for (name, labels), number in found.items():
        if name.endswith("_bucket"):
            bound = float(dict(labels)["le"])
            rest = frozenset(each for each in labels if each[0] != "le")
            series.setdefault((name[: -len("_bucket")], rest), []).append((bound, number))
    for (name, labels), buckets in series.items():
        counts = [number for _, number in sorted(buckets)]
        assert counts == sorted(counts), name
        assert counts[-1] == found[f"{name}_count", labels], name
    return len(series)
