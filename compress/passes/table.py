"""Compression passes by the name that a recipe gives: each takes a candidate and gives a better one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.candidate import Candidate
from compress.passes.bench import Bench
from compress.passes.distill import distill, distill_without_data
from compress.passes.prune import prune
from compress.passes.quantize import export, qat, quantize
from compress.passes.sparsify import sparsify
from compress.passes.train import pretrain, train

PASSES: dict[str, Callable[[Any, Candidate, Bench], Candidate]] = {
    "pretrain": pretrain,
    "train": train,
    "prune": prune,
    "sparsify": sparsify,
    "distill": distill,
    "distill-data-free": distill_without_data,
    "quantize": quantize,
    "qat": qat,
    "export": export,
}
