"""An ONNX model for one input at a time, made to take any number: what a GPU needs to be busy, and costs nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeai.engines.onnx import open_session

BATCH = "batch"
# one after another or together: only the order of sums may differ
_TOLERANCE = 1e-4


def open_batch(content: bytes) -> bytes:
    """The ONNX file with its first dimension open, where it then gives for three inputs at once what it gives for each; else as it was.

    What stands in the way of a batch are mostly shapes written as constants. Others, a constant joined with an input or a
    first dimension that is no batch, show when the model runs: it is tried on random inputs.
    """
    import onnx

    proto = onnx.load_model_from_string(content)
    if not _open_edges(proto.graph):
        return content
    _open_reshapes(proto.graph)
    opened = bytes(proto.SerializeToString())
    return opened if _same_answers(content, opened) else content


def _open_edges(graph: Any) -> bool:
    constants = {each.name for each in graph.initializer}
    edges = [each for each in (*graph.input, *graph.output) if each.name not in constants]
    for edge in edges:
        dims = edge.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value != 1:
            return False
        dims[0].dim_param = BATCH
    del graph.value_info[:]  # inferred for a batch of one
    return True


def _open_reshapes(graph: Any) -> None:
    """A first dimension of 1 becomes the one that is worked out, or where another is already, that of the input."""
    from onnx import numpy_helper

    constants = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]]).copy()
        if not shape.size or shape.flat[0] != 1:
            continue
        shape[0] = 0 if (shape == -1).any() else -1
        name = f"{node.input[1]}_{BATCH}"  # the constant may be another node's too
        if name not in constants:
            constants[name] = numpy_helper.from_array(shape, name)
            graph.initializer.append(constants[name])
        node.input[1] = name


def _same_answers(single: bytes, opened: bytes) -> bool:
    import onnxruntime

    try:
        one, many = (open_session(onnxruntime, content) for content in (single, opened))
        random = np.random.default_rng(0)
        inputs = {
            node.name: random.uniform(0, 1, (3, *node.shape[1:])).astype(np.float32)
            for node in one.get_inputs()
        }
        together = many.run(None, inputs)
        apart = [one.run(None, {name: x[[n]] for name, x in inputs.items()}) for n in range(3)]
    except Exception:  # onnxruntime's own, for a shape that does not fit or a type that is not float
        return False
    for number, got in enumerate(together):
        wanted = np.concatenate([each[number] for each in apart])
        room = _TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
        if got.shape != wanted.shape or not np.allclose(got, wanted, rtol=0, atol=room):
            return False
    return True
