"""`edgeai serve` under load beside the bare engine: requests a second by turns, in one run.

Run: PYTHONPATH=tests python -m bench.bench_serve, or make bench-serve

The server runs as its users start it, and is asked over HTTP with small JPEGs on several connections that are kept
open: by wrk where it is installed, else by client processes of this program. The bare engine is the library's own
call on ready inputs in this process, one thread. By turns, so that whatever else the machine does weighs on both;
the ratio is taken round by round. Nothing is pinned to a core; the load comes from this machine and takes its share.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np

from edgeai.bundle import load_bundle
from edgeai.cli.figures import Outputs, print_figures
from edgeai.engines import open_engine
from edgeai.metrics import Measurement, summarize

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/jpeg"
wrk.body = io.open("%s", "rb"):read("*a")
function done(summary, latency)
  local errors = summary.errors
  local wrong = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  io.write(string.format("edgeai %%d %%d %%f\\n", summary.requests, wrong, summary.duration / 1e6))
end
"""


@contextmanager
def server(bundle: str, *arguments: str) -> Iterator[str]:
    """The URL of the bundle's predictions, from a server of its own process."""
    command = [sys.executable, "-m", "edgeai", "serve", bundle, "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            ready = json.loads(process.stdout.readline())
            yield f"{ready['url']}/v1/models/{ready['models'][0]}/predict"
        finally:
            process.terminate()


def load_by_wrk(url: str, picture: Path, *, seconds: int, connections: int) -> float:
    """Answers a second. SystemExit where one was none."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % picture)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    requests, wrong, took_s = re.search(r"^edgeai (\d+) (\d+) ([\d.]+)$", out, re.MULTILINE).groups()
    if int(wrong):
        raise SystemExit(f"{wrong} of {requests} requests failed")
    return int(requests) / float(took_s)


def ask(url: str, picture: bytes, seconds: float) -> int:
    """One connection's answers within so many seconds."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    answers, end_s = 0, time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        connection.request("POST", where.path, picture, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status}: {body.decode()}")
        answers += 1
    return answers


def load_by_processes(url: str, picture: Path, *, seconds: int, connections: int) -> float:
    with multiprocessing.Pool(connections) as pool:
        jobs = [(url, picture.read_bytes(), seconds)] * connections
        return sum(pool.starmap(ask, jobs, chunksize=1)) / seconds


def bare_rate(call, seconds: float) -> float:
    """Calls a second."""
    calls, began_s = 0, time.perf_counter()
    while (took_s := time.perf_counter() - began_s) < seconds:
        call()
        calls += 1
    return calls / took_s


def small_jpeg(path: Path, source: Path | None, width: int, height: int) -> None:
    """A picture of the data folder, or a drawn one, as a JPEG of that size."""
    image = None if source is None else cv2.imread(str(source))
    if image is None:
        noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="person-detector")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEAI_DATA", "../shared/data")))
    parser.add_argument("--size", default="384x288")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="of each turn")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--without-wrk", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    load = load_by_processes if options.without_wrk or not shutil.which("wrk") else load_by_wrk
    bare, wrapped, served = [], [], []
    with tempfile.TemporaryDirectory() as folder, open_engine(load_bundle(options.bundle)) as engine:
        picture = Path(folder) / "small.jpg"
        small_jpeg(
            picture, next(iter(sorted(options.data.glob("coco_people/images/*.jpg"))), None), width, height
        )
        call = engine.engine.bare_call()
        spec = engine.inputs[0]
        ready = {spec.name: np.zeros(spec.shape, spec.dtype)}
        with server(options.bundle) as url:
            load(url, picture, seconds=1, connections=options.connections)
            bare_rate(call, 1)
            for _ in range(options.rounds):
                bare.append(bare_rate(call, options.seconds))
                served.append(load(url, picture, seconds=options.seconds, connections=options.connections))
                wrapped.append(bare_rate(lambda: engine.run(ready), options.seconds / 3))
    results = [
        summarize("bare_per_s", "1/s", bare),
        summarize("wrapped_per_s", "1/s", wrapped),
        summarize("served_per_s", "1/s", served),
        summarize("ratio", "", np.divide(served, bare)),
        Measurement("ratio_of_wrapped", "", len(served), value=float(np.median(np.divide(served, wrapped)))),
    ]
    how = "wrk" if load is load_by_wrk else "client processes"
    title = f"{options.bundle}, {options.connections} connections of {how}, JPEGs of {options.size}"
    print_figures("serve", results, title=title, outputs=Outputs(json=options.json))


if __name__ == "__main__":
    main()
