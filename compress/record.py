"""What each pass of a run did, and how a run that was cut off finds its way back to where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compress.candidate import Candidate, EngineFile
from compress.measure.cost import Cost
from compress.measure.metric import Metric
from compress.networks.keras_file import keras_network, save_network
from compress.passes.bench import Measured
from compress.quantize.aware.fake_quant import fake_quant_class
from compress.recipe import Recipe
from edgeai import __version__
from edgeai.whole_file import write_whole

STATE_NAME = "state.json"
# of data that a fingerprint reads: lists and teachers are far below; a folder of footage is told by its files' dates instead
_MAX_READ = 256 * 2**20
_REFERENCE, _AWARE = "reference.keras", "aware.keras"


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one attempt at a pass did: how long it took, the figures after it, and whether it was kept.

    tried_again: it was not, and the same pass asking for less followed it.
    """

    kind: str
    seconds: float
    measured: Measured
    kept: bool
    reason: str = ""
    tried_again: bool = False

    def to_json(self) -> dict[str, Any]:
        m = self.measured
        return {
            "pass": self.kind,
            "seconds": round(self.seconds, 1),
            "kept": self.kept,
            "reason": self.reason,
            "tried_again": self.tried_again,
            "metric": m.metric.name,
            "value": round(m.metric.value, 4),
            "ci95": [round(v, 4) for v in m.metric.ci95],
            "n": m.metric.n,
            "parameters": m.parameters,
            "macs": m.macs,
            "bytes": m.cost.bytes,
            "gzip_bytes": m.cost.gzip_bytes,
            "ms_p50": round(m.cost.ms_p50, 4),
            "ms_p99": round(m.cost.ms_p99, 4),
            "engine": f"{m.file.format}/{m.file.precision}",
        }


def run_fingerprint(recipe: Recipe, data_root: Path) -> str:
    """Changes with the recipe, with the program's version, and with the lists and files that the recipe names.

    The first 256 MiB of these count by what is in them, so that data unpacked or copied anew is the same data.
    """
    seen: list[Any] = [__version__, recipe.model_dump(mode="json"), str(data_root.resolve())]
    left = _MAX_READ
    for name in _named_files(recipe.model_dump(mode="json")):
        for path in sorted((data_root / name).glob("*.*")) or [data_root / name]:
            try:
                status = path.stat()
                whole = path.is_file() and status.st_size <= left
                mark = _digest(path) if whole else str(status.st_mtime_ns)
            except OSError:
                continue
            left -= status.st_size if whole else 0
            seen.append([str(path), status.st_size, mark])
    return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _named_files(node: Any) -> list[str]:
    """Every value of a key that names data."""
    if isinstance(node, dict):
        own = [
            v
            for k, v in node.items()
            if k in ("folder", "file", "noises", "init", "teacher") and isinstance(v, str)
        ]
        return own + [name for value in node.values() for name in _named_files(value)]
    if isinstance(node, (list, tuple)):
        return [name for value in node for name in _named_files(value)]
    return []


class SavedRun:
    """A run's state in its working folder: the network as it stands, the files made of it, the records so far."""

    def __init__(self, work: Path, fingerprint: str) -> None:
        self._work = work
        self._fingerprint = fingerprint
        self._network: Any = None
        self._name = ""

    def save(self, candidate: Candidate, records: Sequence[PassRecord], *, name: str) -> None:
        """Keep the run after its last record; a network that is new is written as `name`.keras.

        The old state is replaced at once or not at all.
        """
        if candidate.network is not self._network:
            self._network, self._name = candidate.network, f"{name}.keras"
            save_network(candidate.network, self._work / self._name)
        if candidate.reference is not None and not (self._work / _REFERENCE).exists():
            save_network(candidate.reference, self._work / _REFERENCE)
        if candidate.aware is not None:
            save_network(candidate.aware, self._work / _AWARE)
        state = {
            "fingerprint": self._fingerprint,
            "network": self._name,
            "reference": candidate.reference is not None,
            "aware": candidate.aware is not None,
            "sparse": candidate.sparse,
            "files": [_file_json(file) for file in candidate.files],
            "notes": candidate.notes,
            "records": [_record_json(record) for record in records],
        }
        write_whole(self._work / STATE_NAME, json.dumps(state, default=str))

    def load(self) -> tuple[Candidate, list[PassRecord]] | None:
        """The run that was cut off here; None where there is none, or one of another recipe or other data."""
        try:
            state = json.loads((self._work / STATE_NAME).read_text())
            if state["fingerprint"] != self._fingerprint:
                return None
            files = tuple(_file(file) for file in state["files"])
            if not all(file.path.is_file() for file in files):
                return None
            candidate = Candidate(
                keras_network(self._work / state["network"]),
                sparse=bool(state["sparse"]),
                files=files,
                notes=state["notes"],
            )
            if state["reference"]:
                candidate = replace(candidate, reference=keras_network(self._work / _REFERENCE))
            if state["aware"]:
                fake_quant_class()  # makes it known to Keras
                candidate = replace(candidate, aware=keras_network(self._work / _AWARE))
            records = [_record(record) for record in state["records"]]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ):  # absent, or not ours: then everything is made anew
            return None
        self._network, self._name = candidate.network, state["network"]
        return candidate, records

    def clear(self) -> None:
        """Forget the run: it is done, or another one begins."""
        for pattern in (STATE_NAME, _REFERENCE, _AWARE, "*.checkpoint", "*-rounds.json", "*-round-*.keras"):
            for path in self._work.glob(pattern):
                path.unlink()


def _file_json(file: EngineFile) -> dict[str, str]:
    return {"path": str(file.path), "format": file.format, "precision": file.precision}


def _file(content: dict[str, Any]) -> EngineFile:
    return EngineFile(Path(content["path"]), content["format"], content["precision"])


def _record_json(record: PassRecord) -> dict[str, Any]:
    m = record.measured
    return {
        "kind": record.kind,
        "seconds": record.seconds,
        "kept": record.kept,
        "reason": record.reason,
        "tried_again": record.tried_again,
        "parameters": m.parameters,
        "macs": m.macs,
        "metric": asdict(m.metric),
        "cost": asdict(m.cost),
        "file": _file_json(m.file),
    }


def _record(content: dict[str, Any]) -> PassRecord:
    metric = {**content["metric"], "ci95": tuple(content["metric"]["ci95"])}
    measured = Measured(
        content["parameters"],
        content["macs"],
        Metric(**metric),
        Cost(**content["cost"]),
        _file(content["file"]),
    )
    return PassRecord(
        content["kind"],
        content["seconds"],
        measured,
        content["kept"],
        content["reason"],
        tried_again=content["tried_again"],
    )
