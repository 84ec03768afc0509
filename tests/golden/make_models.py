"""Make the tiny models under tests/golden/models: `python tests/golden/make_models.py [FOLDER]`.

Needs tensorflow and onnx. A picture model (a 3x3 convolution of stride 2, a 1x1 convolution, a maximum: outputs `grid`
and `scores`) and a keyword model (two dense layers: output `scores`), each as float32, integer and ONNX files with the
same weights. tests/contract/test_engine_contract.py holds the same two networks in numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PICTURE = (16, 16, 3)
FEATURES = (10, 8)


def picture_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "stem": rng.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32),
        "stem_bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "head": rng.normal(0, 0.5, (1, 1, 8, 4)).astype(np.float32),
        "head_bias": rng.normal(0, 0.1, 4).astype(np.float32),
    }


def keyword_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "hidden": rng.normal(0, 0.2, (80, 16)).astype(
            np.float32
        ),  # 1280 values: dynamic range starts at 1024
        "hidden_bias": rng.normal(0, 0.1, 16).astype(np.float32),
        "out": rng.normal(0, 0.3, (16, 3)).astype(np.float32),
        "out_bias": rng.normal(0, 0.1, 3).astype(np.float32),
    }


def _pictures() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(3)
    for _ in range(16):
        picture = rng.random((1, *PICTURE), dtype=np.float32)
        picture.flat[:2] = 0, 1  # the whole range, so that int8 is pixel - 128
        yield [picture]


def _features() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(4)
    for _ in range(16):
        yield [rng.uniform(-1, 1, (1, *FEATURES, 1)).astype(np.float32)]


def _tflite(
    name: str,
    shape: tuple[int, ...],
    call: Callable[[Any], dict[str, Any]],
    kind: str,
    data: Callable[[], Iterator],
) -> bytes:
    import tensorflow as tf

    module = tf.Module()
    function = tf.function(call, input_signature=[tf.TensorSpec((1, *shape), tf.float32, name=name)])
    module.serve = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind in {"int8", "uint8"}:
        converter.representative_dataset = data
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    return converter.convert()


def _picture_tflite(kind: str) -> bytes:
    import tensorflow as tf

    w = picture_weights()

    def call(image: Any) -> dict[str, Any]:
        x = tf.nn.relu(tf.nn.conv2d(image, w["stem"], 2, "VALID") + w["stem_bias"])
        grid = tf.nn.conv2d(x, w["head"], 1, "VALID") + w["head_bias"]
        return {"grid": grid, "scores": tf.reduce_max(grid, axis=(1, 2))}

    return _tflite("image", PICTURE, call, kind, _pictures)


def _keyword_tflite(kind: str) -> bytes:
    import tensorflow as tf

    w = keyword_weights()

    def call(features: Any) -> dict[str, Any]:
        x = tf.nn.relu(tf.matmul(tf.reshape(features, (1, 80)), w["hidden"]) + w["hidden_bias"])
        return {"scores": tf.matmul(x, w["out"]) + w["out_bias"]}

    return _tflite("features", (*FEATURES, 1), call, kind, _features)


def _onnx(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray]) -> bytes:
    import onnx
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="make_models")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _picture_onnx() -> bytes:
    from onnx import TensorProto, helper

    w = picture_weights()
    w["stem"], w["head"] = w["stem"].transpose(3, 2, 0, 1).copy(), w["head"].transpose(3, 2, 0, 1).copy()
    nodes = [
        helper.make_node("Conv", ["image", "stem", "stem_bias"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "head", "head_bias"], ["c"]),
        helper.make_node("Transpose", ["c"], ["grid"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMax", ["grid"], ["scores"], axes=[1, 2], keepdims=0),
    ]
    float_info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    outputs = [float_info("grid", ["n", 7, 7, 4]), float_info("scores", ["n", 4])]
    return _onnx(nodes, [float_info("image", ["n", 3, 16, 16])], outputs, w)


def _keyword_onnx() -> bytes:
    from onnx import TensorProto, helper

    w = keyword_weights() | {"flat": np.array([-1, 80], np.int64)}
    nodes = [
        helper.make_node("Reshape", ["features", "flat"], ["a"]),
        helper.make_node("Gemm", ["a", "hidden", "hidden_bias"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "out", "out_bias"], ["scores"]),
    ]
    float_info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    return _onnx(nodes, [float_info("features", ["n", *FEATURES])], [float_info("scores", ["n", 3])], w)


def make_models(folder: Path) -> None:
    """Write every model into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("float32", "int8", "uint8"):
        (folder / f"picture_{kind}.tflite").write_bytes(_picture_tflite(kind))
    for kind in ("float32", "float16", "dynamic", "int8"):
        (folder / f"keyword_{kind}.tflite").write_bytes(_keyword_tflite(kind))
    (folder / "picture.onnx").write_bytes(_picture_onnx())
    (folder / "keyword.onnx").write_bytes(_keyword_onnx())


if __name__ == "__main__":
    make_models(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "models")
