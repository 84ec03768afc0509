"""The libraries' own benchmark programs, where they are on PATH: what ours is held against, beside the bare call.

benchmark_model is LiteRT's, onnxruntime_perf_test onnxruntime's, trtexec TensorRT's. Each measures in a process of its own and
on inputs of its own, so it is run between two halves of our calls; the bare call is measured by turns with ours, call by call,
and is the sharper comparison. Of LiteRT there are two: its invoke alone, and the loop that anyone writes around it, set_tensor of
ready arrays, invoke, get_tensor; onnxruntime's run is both.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeai.engines import Candidate
from edgeai.errors import EngineError
from edgeai.types import JsonValue

WITHIN_US = 50.0
WITHIN_PERCENT = 3.0
BARE = "bare call"
LOOP = "bare loop"
_TIMEOUT_S = 300.0
_NUMBER = r"(\d{1,12}(?:\.\d{1,12})?(?:e[+-]?\d{1,2})?)"


@dataclass(frozen=True, slots=True)
class RawFigure:
    """What a tool or the bare call took, and ours beside it. difference_us: ours less it, positive where ours is slower.

    statistic: of the tool's figure, "median" where it prints one, else "mean". The bare call's difference is the median of the
    differences call by call, a tool's the difference of its figure and our median.
    """

    tool: str
    ms: float
    statistic: str
    difference_us: float

    @property
    def percent(self) -> float:
        return 100 * self.difference_us / (1e3 * self.ms)

    @property
    def within(self) -> bool:
        """Ours is no more than 3 % or 50 µs slower, the larger."""
        return self.difference_us <= max(WITHIN_US, WITHIN_PERCENT / 100 * 1e3 * self.ms)

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "tool": self.tool,
            "ms": round(self.ms, 5),
            "statistic": self.statistic,
            "difference_us": round(self.difference_us, 3),
            "difference_percent": round(self.percent, 2),
            "within": self.within,
        }


def find_tool(candidate: Candidate) -> str | None:
    """The program on PATH that runs a candidate's file as it does; None where there is none."""
    tool = _TOOLS.get(candidate.kind)
    if tool is None or (candidate.kind == "plan" and candidate.entry.format != "plan"):
        return None  # trtexec would build its own plan from ONNX, for minutes
    return tool[0] if shutil.which(tool[0]) else None


def run_tool(candidate: Candidate, path: Path, *, threads: int, calls: int) -> tuple[float, str]:
    """(milliseconds of one call, "median" or "mean") as the candidate's tool says.

    Raises EngineError where the tool is not there, fails, takes longer than five minutes or prints something else.
    """
    name, arguments, parse = _TOOLS[candidate.kind]
    program = shutil.which(name)
    if program is None:
        raise EngineError(f"{name} is not on PATH")
    try:
        done = subprocess.run(
            [program, *arguments(path.resolve(), threads, calls)],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"{name} took longer than {_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise EngineError(f"{name} cannot be started: {error.strerror or error}") from None
    text = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    if done.returncode != 0:
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no word")
        raise EngineError(f"{name} failed with code {done.returncode}: {last[:200]}")
    found = parse(text)
    if found is None:
        raise EngineError(f"{name} printed no time that is known here")
    return found


def parse_benchmark_model(text: str) -> tuple[float, str] | None:
    """LiteRT's benchmark_model: microseconds; newer ones print a median for the regular runs, all of them a mean.

    >>> parse_benchmark_model("Inference timings in us: Init: 812, First inference: 950, Warmup (avg): 640.2, Inference (avg): 612.5")
    (0.6125, 'mean')
    """
    means = re.findall(rf"Inference \(avg\): {_NUMBER}", text)
    if not means:
        return None
    # count=... first=... curr=... min=... max=... avg=... std=... p5=... median=... p95=...: the last line is the regular runs
    medians = re.findall(rf"\bcount=\d+ .*?\bmedian={_NUMBER}", text)
    return (float(medians[-1]) / 1e3, "median") if medians else (float(means[-1]) / 1e3, "mean")


def parse_perf_test(text: str) -> tuple[float, str] | None:
    """onnxruntime_perf_test: "P50 Latency: 0.0123 s", "P50 Latency is 0.0123 sec" in older ones; else the mean, in milliseconds.

    >>> parse_perf_test("Average inference time cost: 1.25 ms")
    (1.25, 'mean')
    """
    median = re.search(rf"P50 Latency(?: is|:) ?{_NUMBER} ?s", text)
    if median:
        return 1e3 * float(median[1]), "median"
    mean = re.search(rf"Average (?:inference )?time cost: ?{_NUMBER} ?ms", text)
    return (float(mean[1]), "mean") if mean else None


def parse_trtexec(text: str) -> tuple[float, str] | None:
    """Trtexec's "Latency" line: copies to and from the device included, as in our call.

    >>> parse_trtexec("[I] Latency: min = 1.1 ms, max = 2 ms, mean = 1.3 ms, median = 1.2 ms, percentile(90%) = 1.4 ms")
    (1.2, 'median')
    """
    line = re.search(r"\] Latency: (.*)", text)
    found = re.search(rf"median = {_NUMBER} ms", line[1]) if line else None
    return (float(found[1]), "median") if found else None


def _benchmark_model(path: Path, threads: int, calls: int) -> list[str]:
    return [
        f"--graph={path}",
        f"--num_threads={threads}",
        f"--num_runs={calls}",
        "--warmup_runs=10",
        "--use_xnnpack=true",
    ]


def _perf_test(path: Path, threads: int, calls: int) -> list[str]:
    return [
        "-e",
        "cpu",
        "-I",
        "-s",
        "-m",
        "times",
        "-r",
        str(calls),
        "-x",
        str(threads),
        "-y",
        "1",
        str(path),
    ]


def _trtexec(path: Path, threads: int, calls: int) -> list[str]:
    return [f"--loadEngine={path}", f"--iterations={calls}", "--duration=0", "--warmUp=200"]


_TOOLS: Mapping[
    str, tuple[str, Callable[[Path, int, int], list[str]], Callable[[str], tuple[float, str] | None]]
] = {
    "tflite": ("benchmark_model", _benchmark_model, parse_benchmark_model),
    "onnx": ("onnxruntime_perf_test", _perf_test, parse_perf_test),
    "plan": ("trtexec", _trtexec, parse_trtexec),
}
