"""Compression passes by the name that a recipe gives: each takes a candidate and gives a better one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.candidate import Candidate
from compress.passes.bench import Bench
from compress.passes.steps import distill, export, pretrain, prune, quantize, train

PASSES: dict[str, Callable[[Any, Candidate, Bench], Candidate]] = {
    "pretrain": pretrain,
    "train": train,
    "prune": prune,
    "distill": distill,
    "quantize": quantize,
    "export": export,
}
