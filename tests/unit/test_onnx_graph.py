"""An ONNX graph rebuilt in Keras says what onnxruntime says of the file."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import DataError, DataMissingError

pytestmark = pytest.mark.compress
SIZE = 32


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def tiny_onnx(path, *, extra=None):
    """A miniature of YOLOX-nano: Focus, SiLU, depthwise, residual, SPP pooling, concat, upsampling, two heads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(x, name, ins, outs, *, kernel=3, stride=1, group=1):
        weight = rng.normal(0, 0.3, (outs, ins // group, kernel, kernel)).astype(np.float32)
        inputs = [
            x,
            constant(f"{name}.weight", weight),
            constant(f"{name}.bias", rng.normal(0, 0.2, outs).astype(np.float32)),
        ]
        pad = kernel // 2
        return add(
            "Conv",
            inputs,
            f"{name}.out",
            group=group,
            strides=[stride] * 2,
            pads=[pad] * 4,
            kernel_shape=[kernel] * 2,
        )

    def silu(x):
        return add("Mul", [x, add("Sigmoid", [x], f"{x}.s")], f"{x}.silu")

    def cut(x, axis, start):
        name = f"{x}.{axis}{start}.{len(nodes)}"
        parts = [
            constant(f"{name}.{k}", np.array([v]))
            for k, v in (("a", start), ("b", 2**31), ("c", axis), ("d", 2))
        ]
        return add("Slice", [x, *parts], name)

    views = [cut(cut("images", 2, dy), 3, dx) for dy, dx in ((0, 0), (1, 0), (0, 1), (1, 1))]
    x = silu(conv(add("Concat", views, "focus", axis=1), "stem", 12, 8))
    y = silu(conv(conv(x, "dw", 8, 8, group=8), "pw", 8, 8, kernel=1))
    x = add("Add", [x, y], "sum")
    pools = [x] + [
        add("MaxPool", [x], f"pool{k}", kernel_shape=[k, k], strides=[1, 1], pads=[k // 2] * 4)
        for k in (3, 5)
    ]
    x = silu(conv(add("Concat", pools, "spp", axis=1), "mix", 24, 8, kernel=1))
    down = add("Relu", [conv(x, "down", 8, 8, stride=2)], "down.relu")
    up = add("Resize", [down, "", constant("scales", np.float32([1, 1, 2, 2]))], "up", mode="nearest")
    both = add("Concat", [up, x], "both", axis=1)
    conv(both, "head.box", 16, 4, kernel=1)
    conv(both, "head.class", 16, 5, kernel=1)
    if extra:
        add(extra, ["head.class.out"], "strange")
        conv("strange", "after", 5, 2, kernel=1)
    outputs = [
        helper.make_tensor_value_info(f"head.{n}.out", TensorProto.FLOAT, [1, c, SIZE // 2, SIZE // 2])
        for n, c in (("box", 4), ("class", 5))
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    graph = helper.make_graph(nodes, "tiny", [images], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_onnx(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


def said_by_onnxruntime(path, picture, outputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(outputs, {"images": picture.transpose(0, 3, 1, 2)})


def test_the_rebuilt_network_says_the_same(tiny):
    from compress.networks.onnx_graph import Cut, OnnxGraph

    graph = OnnxGraph(tiny)
    cuts = [
        Cut(graph.conv_output("head.box.weight"), "box"),
        Cut(graph.conv_output("head.class.weight"), "class", (3, 0)),
    ]
    model = graph.build(height=SIZE, width=SIZE, cuts=cuts)
    picture = np.random.default_rng(1).uniform(0, 4, (1, SIZE, SIZE, 3)).astype(np.float32)
    got = model(picture, training=False)
    box, classes = said_by_onnxruntime(tiny, picture, ["head.box.out", "head.class.out"])
    np.testing.assert_allclose(got["box"], box.transpose(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(got["class"], classes[:, [3, 0]].transpose(0, 2, 3, 1), atol=1e-4)


def test_the_rebuilt_network_can_be_pruned(tiny):
    from compress.networks.onnx_graph import Cut, OnnxGraph
    from compress.prune.channels import prune_channels

    graph = OnnxGraph(tiny)
    model = graph.build(height=SIZE, width=SIZE, cuts=[Cut(graph.conv_output("head.box.weight"), "box")])
    smaller, report = prune_channels(model, macs_ratio=0.6, round_to=2)
    assert report["blocked"] == {}
    assert smaller(np.zeros((1, SIZE, SIZE, 3), np.float32))["box"].shape == (1, SIZE // 2, SIZE // 2, 4)


def test_a_convolution_that_is_not_there_is_said(tiny):
    from compress.networks.onnx_graph import OnnxGraph

    with pytest.raises(DataError, match=r"no convolution with the weight 'head.obj.weight'"):
        OnnxGraph(tiny).conv_output("head.obj.weight")


@pytest.mark.parametrize("strange", ["Softplus", "Tanh"])
def test_a_node_that_is_not_known_is_named(tmp_path, strange):
    from compress.networks.onnx_graph import Cut, OnnxGraph

    graph = OnnxGraph(tiny_onnx(tmp_path / "x.onnx", extra=strange))
    with pytest.raises(DataError, match=rf"'strange' is a {strange}, which is not known"):
        graph.build(height=SIZE, width=SIZE, cuts=[Cut(graph.conv_output("after.weight"), "x")])


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08" * 5000])
def test_a_file_that_is_no_model_is_data_error(tmp_path, content):
    from compress.networks.onnx_graph import OnnxGraph

    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x.onnx is no ONNX model"):
        OnnxGraph(path)
    with pytest.raises(DataMissingError):
        OnnxGraph(tmp_path / "none.onnx")


@pytest.mark.data
def test_yolox_nano_says_the_same_in_keras(shared_data):
    import onnx
    from onnx.utils import Extractor

    from compress.networks.yolox import yolox_from_onnx

    path = shared_data / "models/detectors/yolox_nano_coco_416.onnx"
    size = 416
    model = yolox_from_onnx(path, height=size, width=size, keep_classes=[0, 2])
    picture = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    got = model(picture, training=False)
    whole = onnx.load(str(path))
    by_weight = {node.input[1]: node.output[0] for node in whole.graph.node if node.op_type == "Conv"}
    for level, stride in enumerate((8, 16, 32)):
        for part, name in (("reg", "box"), ("obj", "object"), ("cls", "class")):
            tensor = by_weight[f"head.{part}_preds.{level}.weight"]
            piece = Extractor(whole).extract_model(["images"], [tensor])
            import onnxruntime

            session = onnxruntime.InferenceSession(
                piece.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            (said,) = session.run(None, {"images": picture.transpose(0, 3, 1, 2)})
            said = said.transpose(0, 2, 3, 1)
            wanted = said[..., [0, 2]] if part == "cls" else said
            assert np.abs(np.array(got[f"{name}_{stride}"]) - wanted).max() < 1e-3
