"""`edgeai bench audio`: what listening costs, second of sound for second of sound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import numpy as np

from edgeai.bench.machine import bench_notes, read_state
from edgeai.bundle import load_bundle
from edgeai.cli.figures import Outputs, print_figures
from edgeai.cli.host import this_host
from edgeai.errors import UsageError
from edgeai.metrics import Measurement, summarize
from edgeai.pipeline import VoicePipeline
from edgeai.sources.audio import is_microphone, open_audio
from edgeai.stages.audio.logmel import LogMel
from edgeai.types import Chunk

CHUNK_S = 0.1  # what a microphone gives at once
_WARM_UP = 10


def bench_audio(
    file: str | None, model: str, *, engine: str | None, threads: int, seconds: float, outputs: Outputs
) -> int:
    """Measure `seconds` of a sound file, begun again at its end, or of noise, in chunks of 0.1 s.

    cpu_percent: processor time of the whole process for one second of sound, of one core: the load of one live
    microphone. chunk_ms: a chunk through front end, engine and smoothing. frontend_us: the features of a chunk alone.
    engine_us: one call of the model.
    """
    if file is not None and is_microphone(file):
        raise UsageError(
            "a microphone cannot be measured, it only gives sound as fast as it comes; give a file"
        )
    outputs.check()
    start = read_state()
    bundle = load_bundle(model)
    with VoicePipeline(bundle, engine=engine, host=this_host(), threads=threads) as pipeline:
        spec = pipeline.spec
        samples = max(1, round(CHUNK_S * spec.sample_rate_hz))
        count = max(1, round(seconds / CHUNK_S))
        sound = _noise(samples) if file is None else _recorded(file, samples, spec.sample_rate_hz)
        chunks = [
            Chunk(each, spec.sample_rate_hz, number * samples / spec.sample_rate_hz, "bench")
            for number, each in enumerate(islice(sound, count + _WARM_UP))
        ]
        for chunk in chunks[:_WARM_UP]:
            pipeline.process(chunk)
        chunk_ms = []
        began_cpu_s = time.process_time()
        for chunk in chunks[_WARM_UP:]:
            began_ns = time.perf_counter_ns()
            pipeline.process(chunk)
            chunk_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
        cpu_s = time.process_time() - began_cpu_s
        front_end = LogMel(spec)
        frontend_us = [_time_us(lambda chunk=chunk: front_end.push(chunk.samples)) for chunk in chunks]  # type: ignore[misc]
        features = np.zeros(pipeline.engine.inputs[0].shape, np.float32)
        given = {pipeline.engine.inputs[0].name: features}
        engine_us = [_time_us(lambda: pipeline.engine.run(given)) for _ in range(min(count, 1000))]
    results = [
        Measurement("cpu_percent", "%", count, value=100.0 * cpu_s / (count * CHUNK_S)),
        summarize("chunk_ms", "ms", chunk_ms),
        summarize("frontend_us", "us", frontend_us),
        summarize("engine_us", "us", engine_us),
    ]
    title = f"{bundle.name}, {threads} thread(s), {count * CHUNK_S:g} s of {file or 'noise'}"
    notes = bench_notes(start, {"chunk_ms": chunk_ms, "engine_us": engine_us})
    print_figures("audio", results, title=title, outputs=outputs, notes=notes)
    return 0


def _time_us(call: Callable[[], object]) -> float:
    began_ns = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began_ns) / 1e3


def _noise(samples: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    return cycle([random.normal(0, 0.1, samples).astype(np.float32) for _ in range(100)])


def _recorded(file: str, samples: int, rate_hz: int) -> Iterator[np.ndarray]:
    """The file in whole chunks, again and again; one shorter than a chunk is filled up with silence."""
    with open_audio(file, stream="bench", sample_rate_hz=rate_hz) as source:
        sound = np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in islice(source, 3000))])
    sound = np.pad(sound, (0, -len(sound) % samples or samples * (len(sound) == 0)))
    return cycle(sound.reshape(-1, samples))
