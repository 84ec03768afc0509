"""Export to ONNX through tf2onnx: batch 1, NHWC input as the network has it, outputs under their own names."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

from compress.data.whole_file import write_whole
from compress.networks.signature import constant_function, input_shapes, output_names
from edgeai.errors import PassError

OPSET = 15


def export_onnx(network: Any, path: Path) -> None:
    """Write a Keras model as float32 ONNX, of one input or several.

    Raises PassError where the exporter fails, or an output is called as an input is, which ONNX does not allow.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    names = output_names(network)
    twice = sorted(set(names) & set(input_shapes(network)))
    if twice:
        raise PassError(
            f"the ONNX exporter failed: {twice[0]!r} is an input and an output", next_step="rename one"
        )
    function = constant_function(network)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            proto, _ = tf2onnx.convert.from_function(
                function, input_signature=function.input_signature, opset=OPSET
            )
        _rename_edges(proto, sorted(names))
        onnx.checker.check_model(proto)
    except Exception as error:
        raise PassError(
            f"the ONNX exporter failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        ) from error
    write_whole(path, proto.SerializeToString())


def _rename_edges(proto: Any, names: list[str]) -> None:
    """tf2onnx calls outputs Identity:0 and so on, in the order of the sorted dict keys; give them their names."""
    old = [o.name for o in proto.graph.output]
    renamed = dict(zip(old, names, strict=True))
    for node in proto.graph.node:
        node.output[:] = [renamed.get(n, n) for n in node.output]
        node.input[:] = [renamed.get(n, n) for n in node.input]
    for output in proto.graph.output:
        output.name = renamed[output.name]
    plain = {given.name: given.name.split(":")[0] for given in proto.graph.input}
    for node in proto.graph.node:
        node.input[:] = [plain.get(n, n) for n in node.input]
    for given in proto.graph.input:
        given.name = plain[given.name]
