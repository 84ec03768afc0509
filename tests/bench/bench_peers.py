"""Our compression beside its peers: the digits baseline through each of them, with the same training pixels and steps.

Run: make bench-peers, or PYTHONPATH=tests python -m bench.bench_peers --table

Peers live in an environment of their own (.ci/peers.sh makes .venv-peers) and write their files as subprocesses. All files
are then measured here, by turns, one thread: TFLite by LiteRT, ONNX by onnxruntime. The baseline and our files are those
that bench_compress.py made. What is in --work is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from bench.bench_compress import time_by_turns
from bench.peers.exchange import RECORD, SAID, open_exchange
from bench.peers.offer import facts_of, write_exchange

from compress.cli.compare import pair_up
from compress.cli.evaluate import evaluate_engine
from compress.export.onnx import export_onnx
from compress.export.onnx_qdq import export_qdq
from compress.measure.graph_cost import count_graph
from compress.quantize.post_training import quantize_network
from compress.quantize.settings import PostTraining
from compress.quantize.tflite import convert_tflite
from compress.quiet import start_tensorflow
from compress.recipe import load_recipe
from edgeai.bundle import Bundle, load_bundle, write_bundle
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import BundleMissingError, DataMissingError, EdgeError
from edgeai.hardware import device_facts, library_versions
from edgeai.whole_file import write_whole

HERE = Path(__file__).resolve().parent
PEERS = {
    "converter": ("converter_alone.py", ""),
    "litert-quantizer": ("litert_peer.py", ""),
    "tfmot-prune": ("tfmot_peer.py", "prune"),
    "tfmot-qat": ("tfmot_peer.py", "qat"),
    "tfmot-cluster": ("tfmot_peer.py", "cluster"),
    "torch-whole": ("torch_peer.py", "whole"),
    "torch-l2": ("torch_peer.py", "l2"),
    "torch-taylor": ("torch_peer.py", "taylor"),
}
"""Program and variant: each a process of its own, so that one that fails leaves the others."""


def run_peer(name: str, exchange: Path, out: Path, environment: Path) -> dict[str, Any]:
    """The peer's record, from `out` where it is of these facts; {"failed": why} where it could not be had."""
    facts = asdict(open_exchange(exchange).facts)
    known = out / RECORD
    if known.is_file():
        record: dict[str, Any] = json.loads(known.read_text())
        if record["facts"] == json.loads(json.dumps(facts)):
            return record
    python = environment / "bin" / "python"
    if not python.exists():
        return {"failed": f"no {environment.name}: run .ci/peers.sh"}
    out.mkdir(parents=True, exist_ok=True)
    known.unlink(missing_ok=True)
    print_note(f"peer {name}: into {out}")
    program, variant = PEERS[name]
    command = [
        "nice",
        "-n",
        "10",
        str(python),
        str(HERE / "peers" / program),
        str(exchange),
        str(out),
        variant,
    ]
    code, last = _follow(command, out / "log.txt", name)
    if code != 0 or not known.is_file():
        return {"failed": f"exit {code}: {last[:200]}"}
    made: dict[str, Any] = json.loads(known.read_text())
    return made


def _follow(command: Sequence[str], log: Path, name: str) -> tuple[int, str]:
    """The exit code and the last line. All goes to the log, what the peer itself says to our standard error too."""
    last = "it said nothing"
    with (
        log.open("w") as written,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": ""},
        ) as running,
    ):
        for line in running.stdout or ():
            written.write(line)
            last = line.strip() or last
            if line.startswith(SAID):
                print_note(f"{name}: {line.removeprefix(SAID).rstrip()}")
    return running.returncode, last


def peer_bundle(folder: Path, baseline: Bundle, row: Mapping[str, Any], file: Path) -> Bundle:
    """A peer's file as a bundle, so that it is run by the code that runs ours."""
    manifest = baseline.manifest
    picture = manifest.input.model_dump(mode="json")
    picture["layout"] = row.get("layout", "NCHW" if row["format"] == "onnx" else "NHWC")
    fields = {
        "name": folder.name,
        "version": "1.0.0",
        "task": manifest.task,
        "input": picture,
        "decoder": manifest.decoder.model_dump(mode="json"),
        "labels": list(manifest.labels),
        "files": [{"path": file.name, "format": row["format"], "precision": row["precision"]}],
    }
    return write_bundle(folder, fields, {file.name: file})


def measure_rows(rows: Sequence[Mapping[str, Any]], data: Path, split: str) -> list[dict[str, Any]]:
    """rows: name, how, bundle, entry; the first is the baseline, to which all others are compared."""
    made = [evaluate_engine(row["bundle"], row["entry"], data, split, iou=0.5) for row in rows]
    times = time_by_turns([(row["bundle"], row["entry"]) for row in rows])
    first = np.median(times[0], axis=1)
    told = []
    for row, seen, ms in zip(rows, made, times, strict=True):
        graph = count_graph(row["bundle"].path(row["entry"]), row["entry"].format)
        gap = pair_up(made[0], seen).difference
        told.append(
            {"name": row["name"], "how": row["how"]}
            | seen.to_json()
            | {
                "ms_p50": round(float(np.median(ms)), 5),
                "gzip_bytes": seen.cost.gzip_bytes,
                "macs": graph.macs if graph else None,
                "size_ratio": round(made[0].cost.bytes / seen.cost.bytes, 2),
                "latency_ratio": round(float(np.median(first / np.median(ms, axis=1))), 2),
                "less_baseline": [round(gap.value, 4), *(round(end, 4) for end in gap.ci95)],
                "seconds": row.get("seconds"),
            }
        )
    return told


def print_record(record: Mapping[str, Any]) -> None:
    """One line a file; a peer that could not be had says why below."""
    results = [row for row in record["results"] if "failed" not in row]
    lines = [
        (
            f"{row['name']}, {row['engine'].split('/')[1]}",
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['gzip_bytes'] / 1000:,.0f}",
            f"{row['macs'] / 1e6:.2f}" if row["macs"] is not None else "",
            f"{row['ms_p50']:.3f}",
            f"{row['size_ratio']:.1f}",
            f"{row['latency_ratio']:.1f}",
            f"{row['value']:.3f}",
        )
        for row in results
    ]
    print_table(
        ("file", "kB", "gzip", "MMAC", "ms", "size", "speed", "acc"),
        lines,
        title=f"digits, {record['split']} split, one thread",
    )
    print("size, speed: times smaller, faster than the baseline. MMAC: million MACs.")
    print("TP (Torch-Pruning), torch, ORT, ONNX: by onnxruntime. Others: TFLite by LiteRT.")
    for row in record["results"]:
        if "failed" in row:
            print(f"not had: {row['name']}: {row['failed']}")


def report(record: Mapping[str, Any]) -> dict[str, Any]:
    results = []
    for row in record["results"]:
        if "failed" in row:
            results.append({"name": row["name"], "unit": "", "failed": row["failed"]})
            continue
        name = f"{row['name']}/{row['engine']}"
        results.append({"unit": row["metric"], **row, "name": name})
    return {"bench": "peers", **{key: record[key] for key in ("device", "versions")}, "results": results}


def run(args: argparse.Namespace) -> dict[str, Any]:
    start_tensorflow()
    ours = args.compressed / f"digits-{args.seed}"
    try:
        baseline, small = load_bundle(str(ours / "baseline")), load_bundle(str(ours / "small"))
    except BundleMissingError as error:
        raise DataMissingError(
            f"the baseline and our own compressed network are not in {ours}: {error}",
            next_step=f'make bench-compress ARGS="--only digits --seeds {args.seed}"',
        ) from error
    data = args.compressed / "data"
    recipe = load_recipe(HERE / "compress" / "digits-small.toml").model_copy(update={"seed": args.seed})
    exchange = args.work / "exchange"
    write_exchange(exchange, baseline, recipe, facts_of(recipe, args.fraction), data)
    rows = [
        {
            "name": "baseline",
            "how": "ours, float",
            "bundle": baseline,
            "entry": baseline.engine_file("tflite", "float32"),
        }
    ]
    failed, versions = [], dict(library_versions())
    for peer in args.only:
        record = run_peer(peer, exchange, args.work / peer, args.environment)
        if "failed" in record:
            failed.append({"name": peer, "failed": record["failed"]})
            continue
        versions |= {f"peer {package}": number for package, number in record["versions"].items()}
        for row in record["rows"]:
            file = args.work / peer / row["file"]
            bundle = peer_bundle(args.work / "bundles" / file.stem.lower(), baseline, row, file)
            rows.append({**row, "bundle": bundle, "entry": bundle.manifest.engine_files[0]})
    rows += _ours(small, baseline, args.work)
    return {
        "device": device_facts(),
        "versions": versions,
        "split": args.split,
        "facts": json.loads((exchange / "facts.json").read_text()),
        "results": measure_rows(rows, data / "digits", args.split) + failed,
    }


def _ours(small: Bundle, baseline: Bundle, work: Path) -> list[dict[str, Any]]:
    """The baseline in int8 with nothing pruned; the small bundle's int8 file; and its network unquantized in both runtimes: what
    is ours and what is the runtime's.
    """
    import keras

    whole, network = (
        keras.models.load_model(bundle.path("network.keras"), compile=False) for bundle in (baseline, small)
    )
    how = "channels pruned in rounds, distilled"
    tflite, onnx = work / "ours-float32.tflite", work / "ours-onnx-float32.onnx"
    tflite.write_bytes(convert_tflite(network, "float32"))
    export_onnx(network, onnx)
    whole_tflite, whole_onnx = work / "ours-whole-int8.tflite", work / "ours-whole-int8.onnx"
    pictures = open_exchange(work / "exchange").calibration()
    integer, _ = quantize_network(whole, PostTraining(), [picture[None] for picture in pictures])
    whole_tflite.write_bytes(integer)
    whole_onnx.write_bytes(export_qdq(integer))
    alone = "post-training int8"
    rows = []
    for name, path, precision, done in (
        ("edgeai alone", whole_tflite, "int8", alone),
        ("edgeai alone, ONNX", whole_onnx, "int8", f"{alone}, explicit Q/DQ"),
        ("edgeai, ONNX", onnx, "float32", how),
        ("edgeai", tflite, "float32", how),
    ):
        row = {"format": path.suffix[1:], "precision": precision, "layout": "NHWC"}
        bundle = peer_bundle(work / "bundles" / f"{path.stem}-{path.suffix[1:]}", baseline, row, path)
        rows.append({"name": name, "how": done, "bundle": bundle, "entry": bundle.manifest.engine_files[0]})
    as_int8 = {"bundle": small, "entry": small.engine_file("tflite", "int8")}
    seconds = sum(float(row["seconds"]) for row in small.manifest.provenance["passes"])
    return [*rows, {"name": "edgeai", "how": f"{how}, int8", "seconds": seconds, **as_int8}]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("out/bench_peers"))
    parser.add_argument(
        "--compressed", type=Path, default=Path("out/bench_compress"), help="bench_compress's --work"
    )
    parser.add_argument("--environment", type=Path, default=HERE.parents[1] / ".venv-peers")
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=tuple(PEERS))
    parser.add_argument("--seed", type=int, default=1, help="of the baseline")
    parser.add_argument("--split", default="test", help="to measure on; take train to try things out")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the training steps, to try things out"
    )
    parser.add_argument("--table", action="store_true", help="only print what is in --work")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.only if name not in PEERS]:
        parser.error(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    kept = args.work / "peers.json"
    try:
        if args.table:
            if not kept.is_file():
                raise DataMissingError(f"no figures in {kept}", next_step="make bench-peers")
            record = json.loads(kept.read_text())
        else:
            record = run(args)
            write_whole(kept, json.dumps(record, indent=1))
    except EdgeError as error:
        print_note(f"bench_peers: error: {error}")
        return error.exit_code
    if args.json:
        print_json(report(record))
        return 0
    print_record(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
