"""Every CNN of keras.applications without half of its channels: does it run, and is it the network that did not hear them?

Run: python tests/bench/bench_applications.py --only MobileNetV2,ResNet50

Networks come from the module as it is installed: random weights and batch norms with statistics of their own, no softmax,
the smallest square input that each takes. Of every component of coupled channels every second class is removed. `max rel`
is the largest difference between the zeroed and the removed network over the largest output; `heard` says how far the
zeroed network is from the whole one, by the same measure: near 0, equality would mean nothing. Networks in which a layer holds
channels back are listed with it; the list that is expected is BLOCKED. M, after: million
parameters. follow, remove: seconds.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.groups.graph import ChannelGraph, follow_channels
from compress.groups.remove import remove_channels
from compress.groups.zero import zero_channels
from compress.quiet import start_tensorflow
from edgeai.console import print_json, print_note, print_table, progress_bar
from edgeai.errors import EdgeError

LIMIT = 1e-4
# networks in which something stays whole: the layers' class and why
BLOCKED = {
    **dict.fromkeys(
        ["ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"],
        "LayerNormalization: its statistics run over all channels together",
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One network. seconds: following its channels, and the removal. blocked: reasons, without repeats."""

    name: str
    parameters: int
    parameters_after: int
    removed: int
    channels: int
    difference: float
    heard: float
    follow_s: float
    remove_s: float
    blocked: tuple[str, ...]
    failed: str = ""

    @property
    def halved(self) -> bool:
        """Every channel could go, half of them went, and the outputs agree."""
        return not self.failed and not self.blocked and self.difference <= LIMIT


def application_names() -> list[str]:
    """Every network that keras.applications makes, alphabetically."""
    import keras

    named = vars(keras.applications).items()
    return sorted(name for name, value in named if inspect.isfunction(value))


def open_application(name: str) -> Any:
    """The network at the smallest input that it takes, which its own error tells."""
    import keras

    make = getattr(keras.applications, name)
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    try:
        return make(input_shape=(32, 32, 3), **options)
    except ValueError as error:
        size = re.search(r"at least (\d+)x", str(error))
        if size is None:
            raise
        return make(input_shape=(int(size[1]), int(size[1]), 3), **options)


def shake(model: Any, seed: int) -> None:
    """Statistics, gains and biases that are not all alike; else much of what a removal must copy would not show."""
    rng = np.random.default_rng(seed)
    for layer in _layers(model):
        for weight in layer.weights:
            name, shape = weight.name, weight.shape
            if type(layer).__name__ == "LayerScale":  # it begins at 1e-6: nothing behind it would be heard
                name = "gamma"
            if name in {"gamma", "moving_variance"}:
                weight.assign(rng.uniform(0.6, 1.4, shape) * np.maximum(weight, 0.5))
            elif name in {"beta", "moving_mean", "bias"}:
                weight.assign(rng.normal(0, 0.1, shape))


def _layers(model: Any) -> list[Any]:
    return [x for layer in model.layers for x in (_layers(layer) if hasattr(layer, "layers") else [layer])]


def half_channels(graph: ChannelGraph) -> frozenset[int]:
    """Every second class of every component; of a layer that would run empty, the first one stays."""
    removed = {int(root) for component in graph.components() for root in component[1::2]}
    for item in graph.layers:
        roots = np.unique(graph.roots(item.out_ids)).tolist()
        if roots and removed.issuperset(roots):
            removed.discard(roots[0])
    return frozenset(removed)


def measure_application(name: str, seed: int = 0) -> Outcome:
    """Build it, halve it, compare. What goes wrong is told in `failed`."""
    import keras

    model = open_application(name)
    shake(model, seed)
    begin = time.perf_counter()
    graph = follow_channels(model)
    removed = half_channels(graph)
    followed = time.perf_counter()
    every = [graph.roots(item.out_ids) for item in graph.layers if item.makes]
    channels = len(np.unique(np.concatenate(every)))
    reasons = tuple(sorted(set(graph.blocked.values())))
    pictures = np.random.default_rng(seed).uniform(0, 255, (2, *model.input_shape[1:])).astype(np.float32)
    whole = np.array(model(pictures, training=False))
    parameters = model.count_params()
    zeroed_model = zero_channels(model, graph, removed)
    zeroed = np.array(zeroed_model(pictures, training=False))
    del zeroed_model
    start = time.perf_counter()
    smaller = remove_channels(model, graph, removed)
    took = time.perf_counter() - start
    del model, graph
    got = np.array(smaller(pictures, training=False))
    after = smaller.count_params()
    del smaller
    keras.backend.clear_session()
    gc.collect()
    scale = float(np.abs(zeroed).max()) or 1.0
    return Outcome(
        name,
        parameters,
        after,
        len(removed),
        channels,
        float(np.abs(zeroed - got).max()) / scale,
        float(np.abs(zeroed - whole).max()) / (float(np.abs(whole).max()) or 1.0),
        followed - begin,
        took,
        reasons,
    )


def measure_all(names: Sequence[str]) -> list[Outcome]:
    outcomes = []
    with progress_bar("keras.applications", len(names)) as advance:
        for name in names:
            try:
                outcome = measure_application(name)
            except (EdgeError, ValueError) as error:
                outcome = Outcome(name, 0, 0, 0, 0, float("inf"), 0, 0, 0, (), failed=str(error))
            outcomes.append(outcome)
            advance(1, f"{name}: {outcome.difference:.1e}")
    return outcomes


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """DESIGN.md, "Machine-readable figures"."""
    import keras
    import tensorflow as tf

    results: list[dict[str, Any]] = []
    for o in outcomes:
        results += [
            {
                "name": f"{o.name}/max_relative",
                "unit": "1",
                "value": o.difference if not o.failed else None,
                "n": 1,
            },
            {
                "name": f"{o.name}/parameters_kept",
                "unit": "1",
                "value": o.parameters_after / max(o.parameters, 1),
                "n": 1,
            },
            {"name": f"{o.name}/follow_s", "unit": "s", "value": o.follow_s, "n": 1},
            {"name": f"{o.name}/remove_s", "unit": "s", "value": o.remove_s, "n": 1},
        ]
    halved = sum(o.halved for o in outcomes) / max(len(outcomes), 1)
    results.append({"name": "halved", "unit": "1", "value": halved, "n": len(outcomes)})
    return {
        "bench": "applications",
        "device": {"machine": platform.machine(), "cpus": os.cpu_count()},
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__},
        "results": results,
        "blocked": {o.name: list(o.blocked) for o in outcomes if o.blocked},
        "failed": {o.name: o.failed for o in outcomes if o.failed},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 where a network fails, differs, or is blocked by what BLOCKED does not say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="names, separated by commas; all without it")
    parser.add_argument("--json", action="store_true", help="one line for machines")
    args = parser.parse_args(argv)
    start_tensorflow()
    names = application_names()
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    strangers = [name for name in only if name not in names]
    if strangers:
        print_note(f"no such network: {', '.join(strangers)}; there are {', '.join(names)}")
        return 2
    outcomes = measure_all(only or names)
    if args.json:
        print_json(as_json(outcomes))
    else:
        rows = [
            (
                o.name,
                f"{o.parameters / 1e6:.2f}",
                f"{o.parameters_after / 1e6:.2f}",
                f"{o.removed / max(o.channels, 1):.0%}",
                f"{o.difference:.0e}",
                f"{o.heard:.2f}",
                f"{o.follow_s:.1f}",
                f"{o.remove_s:.1f}",
            )
            for o in outcomes
        ]
        headings = ("network", "M", "after", "gone", "max rel", "heard", "follow", "remove")
        print_table(headings, rows)
        for o in outcomes:
            if o.failed or o.blocked:
                print(f"{o.name}: {o.failed or '; '.join(o.blocked)}")
        print(
            f"{sum(o.halved for o in outcomes)} of {len(outcomes)} without half of their channels, all agreeing to {LIMIT}"
        )
    known = all(o.blocked == ((BLOCKED[o.name],) if o.name in BLOCKED else ()) for o in outcomes)
    return 0 if known and all(not o.failed and o.difference <= LIMIT for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
