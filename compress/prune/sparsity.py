"""What zeros in a network bring, told as it is: bytes after compression, and no time but on engines that skip them."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from compress.prune.magnitude import weighted_layers
from compress.prune.two_four import is_two_four
from edgeai.errors import PassError

SparseTarget = Literal["tflite", "onnx", "tensorrt"]

NOT_FASTER = "smaller file once compressed, not faster, on this target"
# pattern of the zeros, target -> what it brings; XNNPACK's sparse kernels need ARM, 1x1 convolutions and 2/3 of zeros
SENTENCES: dict[tuple[str, str], str] = {
    ("unstructured", "tflite"): NOT_FASTER,
    ("unstructured", "onnx"): NOT_FASTER,
    ("unstructured", "tensorrt"): NOT_FASTER,
    ("2:4", "tflite"): NOT_FASTER,
    ("2:4", "onnx"): NOT_FASTER,
    ("2:4", "tensorrt"): (
        "faster where TensorRT picks sparse tensor cores: compute capability 8.0 and newer, "
        "built with SPARSE_WEIGHTS; not faster elsewhere"
    ),
    ("dense", "tflite"): "dense: nothing to gain from zeros",
    ("dense", "onnx"): "dense: nothing to gain from zeros",
    ("dense", "tensorrt"): "dense: nothing to gain from zeros",
}


@dataclass(frozen=True, slots=True)
class Sparsity:
    """zeros: fraction of all matrix weights that are zero; layers: the same by layer; in_file: of the engine file's
    constants of two and more axes, None where the file is no TFLite. pattern: "dense" below 1 % of zeros. bytes, gzip_bytes: of the engine
    file. brings: one clause for people.
    """

    zeros: float
    layers: dict[str, float]
    pattern: Literal["dense", "unstructured", "2:4"]
    in_file: float | None
    bytes: int
    gzip_bytes: int
    brings: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_sparsity(network: Any, content: bytes, *, target: SparseTarget = "tflite") -> Sparsity:
    """Count the zeros of `network` and of the engine file made of it (`content`, of the kind `target`).

    "2:4": half of the matrix weights or more lie in layers that keep the pattern. Raises PassError for a TFLite file that
    cannot be read.
    """
    counts: dict[str, tuple[int, int]] = {}
    two_four = 0
    for layer in weighted_layers(network):
        arrays = [np.asarray(v.numpy()) for v in layer.trainable_variables if len(v.shape) > 1]
        size = sum(a.size for a in arrays)
        if not size:
            continue
        counts[layer.name] = (sum(int((a == 0).sum()) for a in arrays), size)
        two_four += size if all(is_two_four(a) for a in arrays) else 0
    whole = sum(size for _, size in counts.values())
    zeros = sum(gone for gone, _ in counts.values()) / max(1, whole)
    pattern: Literal["dense", "unstructured", "2:4"] = "dense"
    if zeros >= 0.01:
        pattern = "2:4" if 2 * two_four >= whole else "unstructured"
    return Sparsity(
        zeros=zeros,
        layers={name: gone / size for name, (gone, size) in counts.items()},
        pattern=pattern,
        in_file=zeros_in_tflite(content) if target == "tflite" else None,
        bytes=len(content),
        gzip_bytes=len(zlib.compress(content, 6)),
        brings=SENTENCES[pattern, target],
    )


def zeros_in_tflite(content: bytes) -> float:
    """Fraction of exact zeros among the constants of two and more axes: weights, not biases. Raises PassError for a broken
    file. Symmetric int8 keeps a float zero as 0; int4 and float16 are read as stored.
    """
    from ai_edge_litert import schema_py_generated as schema

    zeros = total = 0
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                stored = model.buffers[tensor.buffer].data
                kind = _STORED.get(tensor.type)
                if stored is None or kind is None or tensor.shape is None or len(tensor.shape) < 2:
                    continue
                values = np.frombuffer(np.asarray(stored, np.uint8).tobytes(), kind)
                zeros, total = zeros + int((values == 0).sum()), total + values.size
    except Exception as error:  # flatbuffers have a dozen ways to fall over a broken file
        raise PassError(f"this is no TFLite file: {type(error).__name__}") from error
    return zeros / max(1, total)


# TFLite's TensorType (schema.fbs): float32, float16, int8
_STORED = {0: "<f4", 1: "<f2", 9: "i1"}
