"""ONNX with explicit Q/DQ: what the int8 TFLite says, as TensorRT takes it; and what it does not take is found."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from edgeai.engines.onnx import open_session
from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((1, 16, 16, 3)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def integer(keras):
    """An int8 TFLite file with every way in which products, additions and poolings meet."""
    from compress.quantize.tflite import convert_tflite

    layers = keras.layers
    keras.utils.set_random_seed(8)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu6", bias_initializer="normal")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", bias_initializer="normal")(x)
    x = layers.Add()([x, layers.Conv2D(8, 1, name="beside")(y)])
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2DTranspose(6, 2, strides=2, name="up")(x)
    x = layers.Conv2D(6, 3, activation="swish")(x)
    outputs = {
        "scores": layers.Dense(4, name="dense")(layers.GlobalAveragePooling2D()(x)),
        "map": layers.Conv2D(2, 1, name="last")(x),
    }
    return convert_tflite(keras.Model(image, outputs), "int8", samples(12))


@pytest.fixture(scope="module")
def exported(integer):
    from compress.export.onnx_qdq import export_qdq

    return export_qdq(integer)


def run_onnx(content, sample):
    import onnxruntime

    session = open_session(onnxruntime, content)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: sample}), strict=True))


def run_tflite(content, sample):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()
    (name, given), *_ = runner.get_input_details().items()
    scale, zero = given["quantization"]
    told = runner(**{name: np.clip(np.rint(sample / scale) + zero, -128, 127).astype(np.int8)})
    ends = runner.get_output_details()
    return {
        k: (v.astype(np.float32) - ends[k]["quantization"][1]) * ends[k]["quantization"][0]
        for k, v in told.items()
    }


@pytest.mark.parametrize("weights", ["dq", "qdq"])
def test_it_says_what_the_tflite_file_says(integer, weights):
    from compress.export.onnx_qdq import export_qdq

    content = export_qdq(integer, weights=weights)
    for sample in samples(4, seed=1):
        ours, theirs = run_onnx(content, sample), run_tflite(integer, sample)
        assert ours.keys() == theirs.keys() == {"scores", "map"}
        for name, truth in theirs.items():
            assert np.abs(ours[name] - truth).max() < 0.06 * np.ptp(truth)


def test_weights_are_the_tflite_files_own_integers(integer, exported):
    import onnx
    from onnx import numpy_helper

    from compress.quantize.graph import TFLiteGraph

    graph = TFLiteGraph(integer)
    theirs = sorted(np.sort(graph.constant(s.weighted[1]).ravel()).tobytes() for s in graph.weighted())
    model = onnx.load_from_string(exported)
    held = [numpy_helper.to_array(i) for i in model.graph.initializer if i.name.endswith("/int8")]
    assert sorted(np.sort(values.ravel()).tobytes() for values in held) == theirs


def test_pairs_stand_where_tensorrt_wants_them(exported):
    import onnx

    graph = onnx.load_from_string(exported).graph
    maker = {name: node for node in graph.node for name in node.output}
    kinds = {node.op_type for node in graph.node}
    assert {"Conv", "ConvTranspose", "Add", "MaxPool"} <= kinds
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            assert [maker[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        if node.op_type == "Add":
            made = sorted(maker[name].op_type for name in node.input)
            assert made == ["Conv", "DequantizeLinear"], "the product's side is added in its accumulator"


def test_floats_through_q_and_dq_are_larger(integer, exported):
    from compress.export.onnx_qdq import export_qdq

    assert len(export_qdq(integer, weights="qdq")) > len(exported) + 1000


def test_only_int8_files_have_this_form(keras):
    from compress.export.onnx_qdq import export_qdq
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining
    from compress.quantize.tflite import convert_tflite

    image = keras.Input((16, 16, 3), name="image")
    network = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    with pytest.raises(PassError, match="has no int8 tensors"):
        export_qdq(convert_tflite(network, "float32"))
    four, _ = quantize_network(network, PostTraining(precision="int4", rounding_steps=2), samples(2))
    with pytest.raises(PassError, match="four bits"):
        export_qdq(four)


def test_our_own_export_has_no_fault(integer, exported):
    from compress.export.onnx_qdq import export_qdq
    from compress.export.qdq_lint import lint_qdq

    assert lint_qdq(exported) == lint_qdq(export_qdq(integer, weights="qdq")) == []


def edited(content, change):
    import onnx

    model = onnx.load_from_string(content)
    change(model)
    return model.SerializeToString()


def replace_zero_points(model, kind, value=0, *, only="QuantizeLinear"):
    from onnx import numpy_helper

    names = {n.input[2] for n in model.graph.node if n.op_type == only and "Conv" not in n.name}
    activations = [i for i in model.graph.initializer if i.name in names and not i.dims]
    for held in activations:
        held.CopyFrom(numpy_helper.from_array(np.array(value, kind), held.name))


def bias_behind_dq(model):
    from onnx import helper, numpy_helper

    node = next(n for n in model.graph.node if n.op_type == "Conv" and len(n.input) > 2)
    held = next(i for i in model.graph.initializer if i.name == node.input[2])
    count = held.dims[0]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones(count, np.int32), "b32"),
            numpy_helper.from_array(np.array(0.01, np.float32), "bs"),
            numpy_helper.from_array(np.array(0, np.int32), "bz"),
        ]
    )
    model.graph.node.insert(
        0, helper.make_node("DequantizeLinear", ["b32", "bs", "bz"], ["b"], name="biasDQ")
    )
    node.input[2] = "b"


def wrong_axis(model):
    node = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.attribute)
    node.attribute[0].i = 1


def float_input(model):
    maker = {name: node for node in model.graph.node for name in node.output}
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    node.input[0] = maker[maker[node.input[0]].input[0]].input[0]


def free_side(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def bad_scale(model):
    from onnx import numpy_helper

    held = next(i for i in model.graph.initializer if i.name.endswith("/scale") and not i.dims)
    held.CopyFrom(numpy_helper.from_array(np.array(0, np.float32), held.name))


BAD = {
    "uint8": (lambda model: replace_zero_points(model, np.uint8), "type"),
    "int16": (lambda model: replace_zero_points(model, np.int16), "type"),
    "asymmetric": (lambda model: replace_zero_points(model, np.int8, 3), "asymmetric"),
    "int32 bias": (bias_behind_dq, "int32-bias"),
    "axis": (wrong_axis, "axis"),
    "half": (float_input, "half"),
    "free shape": (free_side, "free-shape"),
    "scale": (bad_scale, "scale"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_tensorrt_refuses_is_found_before_it_is_asked(exported, kind, monkeypatch):
    from compress.export import trt_gate
    from compress.export.qdq_lint import lint_qdq

    change, rule = BAD[kind]
    content = edited(exported, change)
    assert rule in {fault.rule for fault in lint_qdq(content)}
    monkeypatch.setattr(trt_gate, "_build", lambda *_: pytest.fail("the builder was asked"))
    report = trt_gate.check_for_tensorrt(content)
    assert not report.passed and report.engines == {}


def test_a_file_without_pairs_or_no_model_at_all_is_told(keras, tmp_path):
    from compress.export.onnx import export_onnx
    from compress.export.qdq_lint import lint_qdq

    image = keras.Input((8, 8, 3), name="image")
    export_onnx(keras.Model(image, keras.layers.Conv2D(2, 1, name="y")(image)), tmp_path / "plain.onnx")
    assert [f.rule for f in lint_qdq((tmp_path / "plain.onnx").read_bytes())] == ["no-qdq"]
    with pytest.raises(PassError, match="no valid ONNX model"):
        lint_qdq(b"\x00 not a model")


def test_nvidias_parser_and_builder_take_the_export(integer, exported, tmp_path, capsys):
    if not os.environ.get("EDGEAI_REQUIRE_TRT"):
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    from compress.cli.trt_check import check_files
    from compress.export.onnx_qdq import export_qdq

    for weights in ("dq", "qdq"):
        (tmp_path / f"{weights}.onnx").write_bytes(export_qdq(integer, weights=weights))
    names = [str(tmp_path / "dq.onnx"), str(tmp_path / "qdq.onnx")]
    assert check_files(names, json_output=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["passed"]
    assert all(set(file["engines"]) == {"SM80", "SM86", "SM89"} for file in told["files"])
    (tmp_path / "bad.onnx").write_bytes(edited(exported, bias_behind_dq))
    assert check_files([str(tmp_path / "bad.onnx")]) == 1
    assert "int32 bias" in capsys.readouterr().err


def test_nvidias_builder_takes_recurrent_layers_and_joins_of_unlike_parts(keras):
    if not os.environ.get("EDGEAI_REQUIRE_TRT"):
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    from compress.export.onnx_qdq import export_qdq
    from compress.export.trt_gate import check_for_tensorrt
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    layers = keras.layers
    given = keras.Input((6, 5), name="given")
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(given)
    x = layers.LSTM(4, return_sequences=True)(x)
    parts = [layers.Dense(4)(x * 50.0), layers.Dense(2, activation="sigmoid")(x)]
    network = keras.Model(given, layers.Concatenate()(parts))
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(1, 6, 5)).astype(np.float32) for _ in range(8)]
    report = check_for_tensorrt(export_qdq(quantize_network(network, PostTraining(), inputs)[0]))
    assert report.passed, (report.faults, report.errors)


def test_without_the_extra_the_way_to_it_is_said(exported, monkeypatch):
    import sys

    from compress.export import trt_gate
    from edgeai.errors import EdgeError

    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    trt_gate._tensorrt.cache_clear()
    with pytest.raises(EdgeError, match=r"pip install 'edgeai\[trt-check\]'"):
        trt_gate.check_for_tensorrt(exported)
    trt_gate._tensorrt.cache_clear()


def test_the_order_of_passes_is_checked_before_work_starts():
    from tiny_recipe import squares_recipe

    from compress.recipe import parse_recipe
    from edgeai.errors import RecipeError

    train = {"kind": "train", "fit": {"steps": 1}}
    int8 = {"kind": "quantize"}
    onnx = {"kind": "export", "formats": ["onnx/int8"]}
    parse_recipe(squares_recipe(passes=[train, int8, onnx]), where="here")
    with pytest.raises(RecipeError, match=r"onnx/int8 is made of the int8 TFLite file"):
        parse_recipe(squares_recipe(passes=[train, onnx, int8]), where="here")


def test_half_is_float16_inside_and_float32_outside(keras, tmp_path):
    import onnx

    from compress.export.onnx import export_onnx

    keras.utils.set_random_seed(9)
    image = keras.Input((16, 16, 3), name="image")
    network = keras.Model(image, keras.layers.Conv2D(32, 3, name="y")(image))
    for half in (False, True):
        export_onnx(network, tmp_path / f"{half}.onnx", half=half)
    content = (tmp_path / "True.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert {i.data_type for i in model.graph.initializer if len(i.dims) == 4} == {onnx.TensorProto.FLOAT16}
    assert len(content) < 0.8 * (tmp_path / "False.onnx").stat().st_size
    (sample,) = samples(1)
    (told,) = run_onnx(content, sample).values()
    np.testing.assert_allclose(told, network(sample, training=False), atol=0.01)
