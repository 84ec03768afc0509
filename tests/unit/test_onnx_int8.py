"""int8 products of Q/DQ models in onnxruntime: as the model says, also where x86 without VNNI would add up in 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.engines import open_model_file

onnx = pytest.importorskip("onnx")
WIDTH = 64


def pair(nodes, name, scale, zero="zero"):
    """Q and DQ behind `name`, with a zero point of 0."""
    from onnx import helper

    nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_int8"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}_int8", scale, zero], [f"{name}_real"]))
    return f"{name}_real"


def products(count):
    """x @ W, `count` times over with the same W, through pairs; W has the largest integers there are."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = np.where(rng.random((WIDTH, WIDTH)) < 0.8, 127, -127).astype(np.int8)
    constants = {
        "weights": weights,
        "weight_scale": np.full(WIDTH, 0.01, np.float32),
        "weight_zero": np.zeros(WIDTH, np.int8),
        "fine": np.float32(1 / 127),
        "coarse": np.float32(1.0),
        "shrink": np.float32(0.01),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node(
            "DequantizeLinear", ["weights", "weight_scale", "weight_zero"], ["weights_real"], axis=1
        )
    ]
    name = pair(nodes, "given", "fine")
    for number in range(count):
        product = f"product{number}"
        nodes.append(helper.make_node("MatMul", [name, "weights_real"], [product]))
        name = pair(nodes, product, "coarse")
        if number < count - 1:
            nodes.append(helper.make_node("Mul", [name, "shrink"], [f"small{number}"]))
            name = pair(nodes, f"small{number}", "fine")
    nodes.append(helper.make_node("Identity", [name], ["told"]))
    shape = [1, WIDTH]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("told", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("count", [1, 2], ids=["weights of one product", "weights of two"])
def test_products_do_not_saturate(tmp_path, count):
    runtime = pytest.importorskip("onnxruntime")
    model = products(count)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    given = np.ones((1, WIDTH), np.float32)
    plain = runtime.SessionOptions()  # each node by itself, in float
    plain.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(str(path), plain, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"given": given})
    with open_model_file(path) as engine:
        told = engine.run({"given": given})["told"]
    assert np.ptp(wanted) > 10
    np.testing.assert_allclose(told, wanted, atol=1.0)  # a step: where a sum lies between two
