"""An exported ONNX model takes any number of inputs where that changes no answer, and stays as it was where it would."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.compress


def model(nodes, *, shape=(1, 4, 6), out=(1, 24), constants=()):
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return made.SerializeToString()


def node(kind, *inputs, out="y", **attributes):
    from onnx import helper

    return helper.make_node(kind, list(inputs), [out], **attributes)


def reshape(*to):
    return [("to", np.array(to, np.int64))]


def first_dims(content):
    graph = onnx.load_model_from_string(content).graph
    return [each.type.tensor_type.shape.dim[0].dim_param for each in (*graph.input, *graph.output)]


def run(content, x):
    import onnxruntime

    from edgeai.engines.onnx import open_session

    return open_session(onnxruntime, content).run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "content",
    [
        model([node("Reshape", "x", "to")], constants=reshape(1, 24)),
        model([node("Reshape", "x", "to")], out=(1, 4, 6), constants=reshape(1, -1, 6)),
        model([node("Flatten", "x")]),
        model(
            [node("Reshape", "x", "to", out="a"), node("Reshape", "a", "to")],
            constants=reshape(1, 24),
        ),
    ],
    ids=["constant", "worked out", "no constant", "shared constant"],
)
def test_shapes_that_are_constants_are_opened(content):
    from compress.export.open_batch import open_batch

    opened = open_batch(content)
    assert first_dims(opened) == ["batch", "batch"]
    x = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)
    together = run(opened, x)
    np.testing.assert_array_equal(together, np.concatenate([run(content, x[[n]]) for n in range(5)]))


@pytest.mark.parametrize(
    "content",
    [
        model([node("Reshape", "x", "to")], out=(24,), constants=reshape(24)),
        model(
            [node("ReduceSum", "x", "axes", keepdims=1)], out=(1, 4, 6), constants=[("axes", np.array([0]))]
        ),
        model(
            [node("Concat", "x", "more", axis=1)],
            out=(1, 5, 6),
            constants=[("more", np.ones((1, 1, 6), np.float32))],
        ),
        model([node("Transpose", "x", perm=[1, 0, 2])], out=(4, 1, 6)),
        model([node("Softmax", "x", axis=0)], out=(1, 4, 6)),
    ],
    ids=["all in one", "sum over the batch", "joined constant", "batch elsewhere", "softmax over the batch"],
)
def test_what_would_answer_otherwise_stays_as_it_was(content):
    from compress.export.open_batch import open_batch

    assert open_batch(content) == content


def test_a_file_that_is_open_already_stays_as_it_is():
    from compress.export.open_batch import open_batch

    content = model([node("Flatten", "x")], shape=("n", 4, 6), out=("n", 24))
    assert open_batch(content) == content


def test_the_zoos_files_are_open():
    from edgeai.data import data_root

    for path in data_root().glob("models/*/*.onnx"):
        assert set(first_dims(path.read_bytes())) == {"batch"}, path.name
