"""Training over several devices or hosts: who takes which batches, who writes, and how the processes find each other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeai.console import print_note
from edgeai.errors import UsageError

Kind = Literal["one", "mirrored", "multi-worker"]

EXAMPLE = 'TF_CONFIG=\'{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}\''


@dataclass(frozen=True)
class Replicas:
    """The copies of a network that train together. count: all of them; first: the number of this process's first one.

    devices: of those in this process. chief: whether this process writes checkpoints and logs.
    """

    strategy: Any = None
    count: int = 1
    first: int = 0
    devices: tuple[str | None, ...] = (None,)
    chief: bool = True

    @property
    def workers(self) -> int:
        return self.count // len(self.devices)

    def broadcast(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The chief's `values`, in every process; their shape must be the same in all."""
        if self.workers == 1:
            return values
        import tensorflow as tf

        given = tf.constant(values if self.chief else np.zeros_like(values))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator, unused-ignore]
        def share(tensor: Any) -> Any:
            def replica() -> Any:
                context = tf.distribute.get_replica_context()
                first = int(tf.get_static_value(context.replica_id_in_sync_group)) == self.first
                sent = tf.identity(tensor) if first else tf.zeros_like(tensor)  # on the replica's device
                return context.all_reduce(tf.distribute.ReduceOp.SUM, sent)

            return self.strategy.experimental_local_results(self.strategy.run(replica))[0]

        return np.asarray(share(given).numpy(), np.float64)

    def share(
        self, header: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The chief's header and arrays, in every process. Numbers of up to 53 bits come through as they are."""
        if self.workers == 1:
            return header, arrays
        shapes = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
        text = np.frombuffer(json.dumps([header, shapes]).encode(), np.uint8).astype(np.float64)
        data = [np.asarray(array, np.float64).ravel() for array in arrays.values()]
        lengths = self.broadcast(np.array([len(text), sum(len(part) for part in data)], np.float64))
        given = np.zeros(int(lengths.sum()))
        if self.chief:
            given = np.concatenate([text, *data])
        whole = self.broadcast(given)
        cut = int(lengths[0])
        header, shapes = json.loads(whole[:cut].astype(np.uint8).tobytes().decode())
        shared: dict[str, NDArray[Any]] = {}
        for name, (kind, shape) in shapes.items():
            size = int(np.prod(shape))
            shared[name] = whole[cut : cut + size].astype(np.dtype(kind)).reshape(shape)
            cut += size
        return header, shared


def find_replicas(strategy: Any) -> Replicas:
    """The replicas of a tf.distribute strategy, or the one that there is without."""
    if strategy is None:
        return Replicas()
    devices = tuple(strategy.extended.worker_devices)
    resolver = strategy.cluster_resolver
    worker, chief = 0, True
    if resolver is not None and resolver.task_type is not None and resolver.cluster_spec().as_dict():
        order = [(kind, i) for kind in ("chief", "worker") for i in range(_tasks(resolver, kind))]
        worker = order.index((resolver.task_type, resolver.task_id))
        chief = worker == 0
    return Replicas(strategy, strategy.num_replicas_in_sync, worker * len(devices), devices, chief)


def _tasks(resolver: Any, kind: str) -> int:
    spec = resolver.cluster_spec()
    return int(spec.num_tasks(kind)) if kind in spec.jobs else 0


def open_strategy(kind: Kind) -> Any:
    """None for one device, MirroredStrategy over this machine's GPUs, or MultiWorkerMirroredStrategy over the processes that
    TF_CONFIG names. The last waits for the others, and must come before TensorFlow has done anything else.

    Raises UsageError where TF_CONFIG is absent or malformed, or where it is too late.
    """
    if kind == "one":
        return None
    if kind == "mirrored":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy()
    workers = _read_cluster(os.environ.get("TF_CONFIG", ""))
    print_note(f"waiting for the {len(workers)} workers {', '.join(workers)}")
    import tensorflow as tf

    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(
            f"multi-worker training cannot start: {str(error).splitlines()[0]}",
            next_step="open the strategy before any network or tensor is made",
        ) from error


def _read_cluster(text: str) -> list[str]:
    """The addresses in TF_CONFIG, checked."""
    if not text:
        raise UsageError(
            "multi-worker training needs TF_CONFIG, which is not set", next_step=f"set {EXAMPLE}"
        )
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"TF_CONFIG is no JSON (character {error.pos}: {error.msg})", next_step=f"for example {EXAMPLE}"
        ) from None

    def refuse(what: str) -> UsageError:
        return UsageError(f"TF_CONFIG: {what}", next_step=f"for example {EXAMPLE}")

    cluster = config.get("cluster") if isinstance(config, dict) else None
    task = config.get("task") if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise refuse("an object with cluster and task is expected")
    if unknown := sorted(set(cluster) - {"chief", "worker"}):
        raise refuse(f"cluster may name chief and worker, not {unknown[0]!r}")
    addresses: list[str] = []
    for kind in ("chief", "worker"):
        listed = cluster.get(kind, [])
        if not isinstance(listed, list) or not all(_is_address(entry) for entry in listed):
            raise refuse(f"cluster.{kind} must be a list of host:port, got {str(listed)[:80]}")
        addresses += listed
    if len(set(addresses)) < len(addresses):
        raise refuse("an address is given twice")
    job, index = task.get("type"), task.get("index")
    known = cluster.get(job, []) if isinstance(job, str) else []
    if not known or not isinstance(index, int) or not 0 <= index < len(known):
        raise refuse(f"task {job!r} number {index!r} is not in the cluster")
    return addresses


def _is_address(entry: Any) -> bool:
    if not isinstance(entry, str):
        return False
    host, _, port = entry.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
