"""Export to ONNX through tf2onnx: batch 1, NHWC input as the network has it, outputs under their own names."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compress.memory import give_back_memory
from compress.networks.signature import constant_function, input_shapes, output_names
from edgeai.errors import PassError
from edgeai.whole_file import write_whole

OPSET = 15


def export_onnx(network: Any, path: Path, *, half: bool = False) -> None:
    """Write a Keras model as float32 ONNX, of one input or several.

    half: weights and sums in float16, inputs and outputs still float32: TensorRT from 11 on takes float16 only where the file
    says so. Raises PassError where the exporter fails, or an output is called as an input is, which ONNX does not allow.
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
        proto = convert_lean(
            lambda: tf2onnx.convert.from_function(
                function, input_signature=function.input_signature, opset=OPSET
            )
        )
        # tf2onnx calls outputs Identity:0 and so on, in the order of the sorted dict keys, and inputs name:0
        outputs = dict(zip((o.name for o in proto.graph.output), sorted(names), strict=True))
        rename_edges(proto, {i.name: i.name.split(":")[0] for i in proto.graph.input} | outputs)
        if half:
            proto = _halved(proto)
        onnx.checker.check_model(proto)
    except Exception as error:
        raise PassError(
            f"the ONNX exporter failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        ) from error
    write_whole(path, proto.SerializeToString())


def convert_lean(convert: Callable[[], tuple[Any, Any]]) -> Any:
    """What a function of tf2onnx makes, without its copies of the whole graph.

    It keeps a deep copy before each of its dozen optimizers, several times over, in case one fails: of 60 million parameters
    that is 14 GB and ten minutes. Where one does fail, it is asked again with the copies, and leaves that one out.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with _no_copies():
                return convert()[0]
        except Exception:  # an optimizer's or the converter's own: the second time tells
            return convert()[0]
        finally:
            give_back_memory()


@contextlib.contextmanager
def _no_copies() -> Iterator[None]:
    name = "TF2ONNX_CATCH_ERRORS"
    before = os.environ.get(name)
    os.environ[name] = "FALSE"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _halved(proto: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it names every weight too small for float16
        halved = OnnxModel(convert_float_to_float16(proto, keep_io_types=True))
    halved.topological_sort()  # its casts come last
    return halved.model


def rename_edges(proto: Any, names: Mapping[str, str]) -> None:
    """Call inputs and outputs otherwise: {old name: new name}; what is not in it stays."""
    for edge in (*proto.graph.input, *proto.graph.output):
        edge.name = names.get(edge.name, edge.name)
    for node in proto.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
