"""Export to ONNX through tf2onnx: batch 1, NHWC input as the network has it, outputs under their own names."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

from edgeai.errors import PassError

OPSET = 15


def export_onnx(network: Any, path: Path) -> None:
    """Write a Keras model as float32 ONNX. Raises PassError where the exporter fails."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    shape = (1, *network.inputs[0].shape[1:])
    name = network.inputs[0].name.split(":")[0]

    def call(x: Any) -> Any:
        return {key: tf.identity(value, name=key) for key, value in network(x, training=False).items()}

    function = tf.function(call, input_signature=[tf.TensorSpec(shape, tf.float32, name=name)])
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            proto, _ = tf2onnx.convert.from_function(
                function, input_signature=function.input_signature, opset=OPSET
            )
        wanted = list(network.output) if isinstance(network.output, dict) else list(network.output_names)
        _rename_outputs(proto, sorted(wanted))
        onnx.checker.check_model(proto)
        path.write_bytes(proto.SerializeToString())
    except Exception as error:
        raise PassError(
            f"the ONNX exporter failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        ) from error


def _rename_outputs(proto: Any, names: list[str]) -> None:
    """tf2onnx calls outputs Identity:0 and so on, in the order of the sorted dict keys; give them their names."""
    old = [o.name for o in proto.graph.output]
    renamed = dict(zip(old, names, strict=True))
    for node in proto.graph.node:
        node.output[:] = [renamed.get(n, n) for n in node.output]
        node.input[:] = [renamed.get(n, n) for n in node.input]
    for output in proto.graph.output:
        output.name = renamed[output.name]
    if proto.graph.input:
        first = proto.graph.input[0].name
        plain = first.split(":")[0]
        for node in proto.graph.node:
            node.input[:] = [plain if n == first else n for n in node.input]
        proto.graph.input[0].name = plain
