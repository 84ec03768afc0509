"""The most that a machine's CPU can compute and move, measured.

Compute, float32: a product of two 512 x 512 matrices by numpy's BLAS, and a 1 x 1 convolution of 256 to 256 channels over
64 x 64 by LiteRT, whichever does more: the roof is the best that anything here reaches, not what one library does. Compute,
int8: the same convolution in int8 by LiteRT, the library that runs such models; numpy has no int8 product. The model file is
made on the spot (edgeai.bench.conv_model). Bandwidth: a copy between two arrays, read and written bytes counted, for whatever
together is asked for: large ones tell of the memory, small ones of the caches.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeai.bench.conv_model import ConvType, conv_model
from edgeai.errors import EngineUnavailableError
from edgeai.metrics import Measurement, measure_calls_ms, summarize

MEMORY_BYTES = 128 << 20
"""Both arrays of a copy that no cache holds."""
_SIDE = 512
_CHANNELS, _CONV_SIDE = 256, 64
_CALLS = 25
_LEAST_S = 0.001
_LEAST_PART_BYTES = 4 << 20


def measure_peaks(*, threads: int, copies_bytes: Sequence[int]) -> list[Measurement]:
    """`peak_float32_gmacs`, `peak_int8_gmacs` where LiteRT is there, and `bandwidth_<bytes>_gbs` of each size of copy.

    threads: of LiteRT and of the copies, which are of 4 MiB a thread at least where there are several; numpy's BLAS takes its number when it is imported, which is the caller's part. Each
    is given by its percentiles over 25 calls: the roof is the best of them, the 99th.
    """
    found = []
    products = [_matmul_gmacs()]
    for dtype in ("float32", "int8"):
        try:
            convolution = _conv_gmacs("float32" if dtype == "float32" else "int8", threads)
        except EngineUnavailableError:
            continue
        if dtype == "float32":
            products.append(convolution)
        else:
            found.append(summarize("peak_int8_gmacs", "GMAC/s", convolution))
    best = max(products, key=max)
    found.insert(0, summarize("peak_float32_gmacs", "GMAC/s", best))
    for size_bytes in copies_bytes:
        speeds = _copy_gbs(size_bytes, threads)
        found.append(summarize(f"bandwidth_{size_bytes}_gbs", "GB/s", speeds))
    return found


def _matmul_gmacs() -> list[float]:
    random = np.random.default_rng(0)
    a, b = (random.random((_SIDE, _SIDE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    times_ms = measure_calls_ms(lambda: np.matmul(a, b, out=out), n=_CALLS)
    return [_SIDE**3 / ms / 1e6 for ms in times_ms]


def _conv_gmacs(dtype: ConvType, threads: int) -> list[float]:
    from edgeai.engines.tflite import TfliteEngine

    content = conv_model(_CONV_SIDE, _CONV_SIDE, _CHANNELS, _CHANNELS, dtype=dtype)
    with tempfile.TemporaryDirectory(prefix="edgeai-peak-") as folder:
        path = Path(folder) / f"peak_{dtype}.tflite"
        path.write_bytes(content)
        with TfliteEngine(path, threads=threads) as engine:
            times_ms = measure_calls_ms(engine.bare_call(), n=_CALLS)
    return [_CONV_SIDE**2 * _CHANNELS**2 / ms / 1e6 for ms in times_ms]


def _copy_gbs(size_bytes: int, threads: int) -> list[float]:
    # a thread's copies must be long beside taking the GIL again
    least_bytes = threads * _LEAST_PART_BYTES if threads > 1 else 0
    count = max(size_bytes, least_bytes) // 8  # two arrays of float32
    source, target = np.ones(count, np.float32), np.zeros(count, np.float32)
    np.copyto(target, source)
    began = time.perf_counter()
    np.copyto(target, source)
    repeats = max(1, int(_LEAST_S / max(time.perf_counter() - began, 1e-7)))

    def copy(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    parts = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
    times_ms = measure_calls_ms(_together([partial(copy, *part) for part in parts]), n=_CALLS)
    return [repeats * 2 * source.nbytes / ms / 1e6 for ms in times_ms]


def _together(calls: Sequence[Callable[[], None]]) -> Callable[[], None]:
    """All calls at once, each but the first in a thread of its own."""
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        workers = [threading.Thread(target=call) for call in calls[1:]]
        for worker in workers:
            worker.start()
        calls[0]()
        for worker in workers:
            worker.join()

    return run
