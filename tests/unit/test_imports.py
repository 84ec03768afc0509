"""Networks of other tools: what comes in says what the source said, or one line says what Keras has no layer for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeai.errors import DataError, DataMissingError, EdgeError, UsageError

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def network(keras):
    """Most of what converters make: every kind of convolution, pads, slices, splits, resizing, several outputs."""
    layers = keras.layers
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 4), name="image")
    x = layers.ZeroPadding2D(((2, 0), (1, 0)))(image)
    x = layers.Conv2D(8, 3, strides=2, activation="silu")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)])
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(8, 3, padding="same", groups=2)(x))
    one, other = keras.ops.split(x, 2, axis=-1)
    x = layers.Concatenate()([keras.ops.tanh(one), layers.PReLU()(other), x[..., ::2]])
    up = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(2)(x))
    x = layers.Conv2DTranspose(6, 2, strides=2)(layers.Maximum()([x, up]))
    x = keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect") * np.float32(0.5) + 0.1
    small = layers.Activation("hard_silu")(layers.AveragePooling2D(3)(x))
    rows = layers.Permute((2, 1))(layers.Reshape((-1, 6))(small))
    scores = layers.Softmax()(layers.Dense(5, activation="gelu")(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(image, {"rows": rows, "scores": scores})


@pytest.fixture(scope="module")
def content(network):
    from compress.quantize.tflite import convert_tflite

    return convert_tflite(network, "float32")


def said(network, image):
    return {name: np.asarray(value) for name, value in network(image, training=False).items()}


def test_a_tflite_graph_becomes_layers_that_say_the_same(network, content, keras):
    from compress.imports.tflite import keras_from_tflite

    made = keras_from_tflite(content, where="x.tflite")
    image = np.random.default_rng(0).random((3, 16, 16, 4)).astype(np.float32)
    wanted, got = said(network, image), said(made, image)
    assert got.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-5)
    kinds = {type(layer).__name__ for layer in made.layers}
    assert {"Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "ZeroPadding2D", "PReLU"} <= kinds
    silus = [layer for layer in made.layers if getattr(layer, "activation", None) is keras.activations.silu]
    assert len(silus) == 1


def test_a_maximum_padded_with_minus_infinity_and_half_sizes(keras):
    """As PyTorch's exporters write them: integers cannot hold an infinity."""
    from compress.imports.tflite import keras_from_tflite
    from compress.quantize.tflite import convert_tflite

    image = keras.Input((8, 8, 4), name="image")
    padded = keras.ops.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-3e38)
    pooled = keras.layers.MaxPooling2D(3, strides=2)(padded)
    half = keras.ops.image.resize(image, (4, 4), interpolation="bilinear")
    source = keras.Model(image, {"out": keras.layers.Concatenate()([pooled, half])})
    made = keras_from_tflite(convert_tflite(source, "float32"), where="x.tflite")
    given = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype(np.float32)
    np.testing.assert_allclose(made(given)["out"], source(given)["out"], atol=1e-6)
    inputs = [given, -given]
    content = convert_tflite(made, "int8", inputs)
    assert len(content) > 0


def test_what_was_imported_is_pruned_and_quantized(content):
    from compress.imports.tflite import keras_from_tflite
    from compress.prune.channels import prune_channels
    from compress.quantize.aware.fold import fold_norms
    from compress.quantize.check import not_done
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    made = keras_from_tflite(content, where="x.tflite")
    smaller, _ = prune_channels(made, macs_ratio=0.8, round_to=2)
    assert smaller.count_params() < made.count_params()
    assert fold_norms(made).count_params() == made.count_params()
    rng = np.random.default_rng(0)
    inputs = [rng.random((1, 16, 16, 4)).astype(np.float32) for _ in range(4)]
    integers, _ = quantize_network(smaller, PostTraining(), inputs)
    assert all(one.part == "activation" for one in not_done(integers, "int8"))


def test_files_of_every_kind(network, content, tmp_path):
    import tensorflow as tf

    from compress.imports.network import import_network
    from compress.quantize.tflite import convert_tflite

    (tmp_path / "net.tflite").write_bytes(content)
    (tmp_path / "half.tflite").write_bytes(convert_tflite(network, "float16"))
    network.save(tmp_path / "net.keras")
    module = tf.Module()
    module.network = network
    module.call = tf.function(
        lambda image: network(image, training=False),
        input_signature=[tf.TensorSpec((None, 16, 16, 4), tf.float32, name="image")],
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.call)
    network.export(str(tmp_path / "exported"), verbose=False)
    for name in ("net.tflite", "half.tflite", "net.keras", "saved", "exported"):
        made = import_network(tmp_path / name)
        assert set(made.network.output) == {"rows", "scores"}, name
        assert made.furthest < 1e-4
    named = import_network(tmp_path / "net.keras", outputs=["scores=class"]).network
    assert named.output["class"].shape == (None, 5) and set(named.output) == {"rows", "class"}
    with pytest.raises(UsageError, match="no output 'a': it has rows, scores"):
        import_network(tmp_path / "net.keras", outputs=["a"])
    with pytest.raises(UsageError, match="called alike"):
        import_network(tmp_path / "net.keras", outputs=["scores=rows"])


@pytest.mark.parametrize(
    "name, content, told",
    [
        ("absent.onnx", None, "no network at"),
        ("model.pt", b"x", "come as .keras, .onnx"),
        ("broken.tflite", b"x" * 64, "is no TFLite model"),
        ("broken.keras", b"x" * 64, "is no Keras model"),
        ("broken.onnx", b"x" * 64, "is no ONNX model"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path, name, content, told):
    from compress.imports.network import import_network

    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeError, match=told) as raised:
        import_network(path)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_no_saved_model(tmp_path):
    from compress.imports.network import import_network

    with pytest.raises(DataError, match=r"there is no saved_model\.pb"):
        import_network(tmp_path)


def test_integers_and_unknown_operations_are_named(network, keras):
    from compress.imports.tflite import keras_from_tflite
    from compress.quantize.tflite import convert_tflite

    rng = np.random.default_rng(0)
    inputs = [rng.random((1, 16, 16, 4)).astype(np.float32) for _ in range(2)]
    with pytest.raises(DataError, match=r"not float32 .*can only teach"):
        keras_from_tflite(convert_tflite(network, "int8", inputs), where="x.tflite")
    numbers = keras.Input((64,), name="numbers")
    wide = keras.Model(numbers, {"out": keras.layers.Dense(64)(numbers)})
    with pytest.raises(DataError, match="has weights in integers"):
        keras_from_tflite(convert_tflite(wide, "dynamic"), where="x.tflite")
    words = keras.Input((6, 4), name="steps")
    sorting = keras.Model(words, {"best": keras.ops.top_k(words, 2)[0]})
    with pytest.raises(DataError, match=r"TOPK_V2 .* is not known; known are"):
        keras_from_tflite(convert_tflite(sorting, "float32"), where="x.tflite")


def test_an_import_that_says_something_else_is_refused(content, tmp_path, monkeypatch):
    from compress.imports import layers
    from compress.imports.network import import_network

    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    monkeypatch.setitem(layers.OPERATIONS, "TANH", layers.OPERATIONS["LOGISTIC"])
    with pytest.raises(DataError, match=r"is off by .* of its range"):
        import_network(path)


@pytest.fixture
def onnx_file(tmp_path):
    """A convolution of pictures with channels first."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def make(name="net.onnx", width=8):
        kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
        node = helper.make_node("Conv", ["image", "kernel"], ["map"], pads=[1, 1, 1, 1])
        shapes = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in (("image", [1, 3, 8, width]), ("map", [1, 4, 8, width]))
        ]
        graph = helper.make_graph(
            [node], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(kernel, "kernel")]
        )
        path = tmp_path / name
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(path))
        return path, kernel

    return make


def test_onnx_is_compared_with_channels_moved(onnx_file, keras, monkeypatch):
    """onnx2tf itself is run by tests/system; here its graph is made by Keras."""
    from compress.imports import network as module
    from compress.quantize.tflite import convert_tflite

    path, kernel = onnx_file()
    image = keras.Input((8, 8, 3), name="image")
    layer = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    twin = keras.Model(image, {"anything": layer(image)})
    layer.set_weights([kernel.transpose(2, 3, 1, 0)])
    monkeypatch.setattr(module, "tflite_from_onnx", lambda path, folder: convert_tflite(twin, "float32"))
    made = module.import_network(path)
    assert list(made.network.output) == ["map"] and made.furthest < 1e-5


def test_an_open_size_is_told_before_anything_is_set_up(onnx_file, tmp_path):
    from compress.imports.onnx import tflite_from_onnx

    path, _ = onnx_file(width="wide")
    with pytest.raises(DataError, match="'image' has no fixed size"):
        tflite_from_onnx(path, folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_converter_that_cannot_be_set_up_leaves_nothing(tmp_path, monkeypatch):
    from compress.imports import onnx as module

    monkeypatch.setattr(module, "REQUIREMENT", "onnx2tf==0.0.0.no.such.version")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = tmp_path / "converter"
    with pytest.raises(EdgeError, match="cannot be installed"):
        module.set_up_converter(folder)
    assert not folder.exists()


def test_a_converter_that_fails_says_its_last_error(onnx_file, tmp_path, monkeypatch):
    import sys

    from compress.imports import onnx as module

    path, _ = onnx_file()
    monkeypatch.setattr(module, "set_up_converter", lambda folder: sys.executable)
    with pytest.raises(DataError, match=r"onnx2tf cannot convert net.onnx: .*No module named onnx2tf"):
        module.tflite_from_onnx(path)


def test_the_command_writes_whole_files_and_says_what_to_do(content, tmp_path, capsys):
    from compress.cli.imports import import_file

    path, out = tmp_path / "net.tflite", tmp_path / "made" / "net.keras"
    path.write_bytes(content)
    assert import_file(path, out=out, outputs=("scores=class",), json_output=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outputs"]["class"] == [5] and told["inputs"] == {"image": [16, 16, 4]}
    with pytest.raises(UsageError, match="is there already"):
        import_file(path, out=out)
    with pytest.raises(UsageError, match=r"ends in .keras"):
        import_file(path, out=tmp_path / "net.h5")
    assert import_file(path, out=out, force=True) == 0
    assert 'kind = "keras-file"' in capsys.readouterr().out
    with pytest.raises(DataMissingError):
        import_file(tmp_path / "absent.tflite", out=tmp_path / "x.keras")
    assert not (tmp_path / "x.keras").exists()
