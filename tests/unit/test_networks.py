"""Networks by name: known sizes, faults in recipes told in one line, what fine-tuning and pruning rely on."""

from __future__ import annotations

import numpy as np
import pytest

from compress.recipe import parse_recipe
from edgeai.errors import PassError, RecipeError

pytestmark = [pytest.mark.compress, pytest.mark.usefixtures("keras")]

DETECT = {
    "task": "detect",
    "labels": ["a", "b"],
    "input": {"kind": "image", "width": 64, "height": 64},
    "decoder": {"name": "grid", "params": {"strides": [8, 16]}},
    "data": {"train": [{"kind": "coco", "folder": "x"}]},
}
HEAR = {
    "task": "keyword",
    "labels": ["a", "b"],
    "input": {"kind": "logmel", "frames": 16, "mels": 16},
    "decoder": {"name": "keyword"},
    "data": {"train": [{"kind": "speech", "folder": "x"}]},
}
SPELL = {**HEAR, "task": "transcribe", "decoder": {"name": "ctc"}}


def opened(content, kind, **params):
    from compress.networks import open_network

    passes = [{"kind": "train", "fit": {"steps": 1}}, {"kind": "quantize"}]
    recipe = {"name": "n", **content, "network": {"kind": kind, "params": params}, "passes": passes}
    return open_network(parse_recipe(recipe, where="here"), data_root=None)


def test_the_zoos_architectures_stay_what_they_are():
    """Parameters and multiplications of the default parameters: recipes of models that are out there build on them."""
    from compress.groups.macs import model_macs
    from compress.networks.grid_detector import grid_detector
    from compress.networks.keyword import ds_cnn, ds_tc_resnet
    from compress.networks.plain_detector import plain_detector

    speech = {"frames": 98, "mels": 40, "classes": 12}
    for network, params, macs in (
        (ds_tc_resnet(**speech), 170_444, 6_126_144),
        (ds_cnn(**speech), 70_892, 15_490_016),
        (grid_detector(height=64, width=96, classes=2), 150_386, 6_391_680),
        (plain_detector(height=64, width=64, classes=3), 121_998, 5_077_888),
    ):
        assert (network.count_params(), model_macs(network)) == (params, macs), network.name


def test_bc_resnet_and_the_autoencoder_are_as_published():
    from compress.groups.macs import model_macs
    from compress.networks.autoencoder import dense_autoencoder
    from compress.networks.bc_resnet import bc_resnet

    network = bc_resnet(frames=101, mels=40, classes=12)
    # Kim et al. 2021, table 2: 9.2 k parameters for BC-ResNet-1
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == 9232
    # MLPerf Tiny's anomaly detector: 640 inputs, 4 x 128, 8, 4 x 128, 640
    assert model_macs(dense_autoencoder(frames=5, mels=128)) == 264_192


def test_sub_spectral_norm_is_one_norm_of_bands_times_channels(keras):
    """Chang et al. 2021: (B, T, S slices of F / S bands, C) normalised over all but slice and channel."""
    from compress.networks.bc_resnet import sub_spectral_norm

    x = keras.Input((6, 10, 3))
    network = keras.Model(x, sub_spectral_norm(x, 5, name="norm"))
    given = np.random.default_rng(0).normal(3, 2, (4, 6, 10, 3)).astype(np.float32)
    sliced = given.reshape(4, 6, 5, 2, 3)
    centred = sliced - sliced.mean((0, 1, 3), keepdims=True)
    wanted = centred / np.sqrt(sliced.var((0, 1, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(network(given, training=True), wanted.reshape(given.shape), atol=1e-3)


@pytest.mark.parametrize("mels", [7, 33])
def test_bc_resnet_takes_any_number_of_bands(mels):
    from compress.networks.bc_resnet import bc_resnet

    network = bc_resnet(frames=9, mels=mels, classes=2, blocks=(1, 1, 1, 1))
    assert network(np.zeros((1, 9, mels, 1), np.float32))["keyword"].shape == (1, 2)


@pytest.mark.parametrize("kind", ["ds-cnn", "ds-tc-resnet", "bc-resnet"])
def test_a_causal_network_does_not_hear_the_future(kind, keras):
    """Features before the mean over time, with and without what comes after."""
    network = opened(HEAR, kind, causal=True)
    pool = network.get_layer("head_pool")
    body = keras.Model(network.input, pool.input)
    whole = np.random.default_rng(0).normal(0, 1, (1, 16, 16, 1)).astype(np.float32)
    changed = whole.copy()
    changed[:, 6:] = 5.0
    before, after = np.array(body(whole)), np.array(body(changed))
    stride = 16 // before.shape[1]
    unchanged = 5 // stride + 1  # positions that stand at frames 0 to 5
    np.testing.assert_array_equal(before[:, :unchanged], after[:, :unchanged])
    assert not np.array_equal(before, after)


def test_causal_has_the_shapes_and_weights_of_the_other_one():
    for kind, params in (("ds-cnn", {}), ("ds-tc-resnet", {}), ("bc-resnet", {"blocks": [1, 1, 1, 1]})):
        plain, causal = opened(HEAR, kind, **params), opened(HEAR, kind, **params, causal=True)
        assert [w.shape for w in plain.weights] == [w.shape for w in causal.weights]
        causal.set_weights(plain.get_weights())


@pytest.mark.parametrize(
    "content, kind, params, told",
    [
        (DETECT, "grid-detectr", {}, "grid-detector"),
        (DETECT, "grid-detector", {"multiplyer": 1}, "no parameter 'multiplyer'.*multiplier"),
        (DETECT, "grid-detector", {"classes": 4}, "follows from the rest"),
        (DETECT, "plain-detector", {"channels": [8, 16]}, "no map of stride 16"),
        (DETECT, "plain-detector", {"multiplier": "wide"}, "cannot be built"),
        (DETECT, "ds-cnn", {}, "hears"),
        (HEAR, "plain-detector", {}, "looks at pictures"),
        (HEAR, "crnn", {}, r"need 'keyword' of \(2,\)"),
        (HEAR, "dense-autoencoder", {}, "need 'keyword'"),
        (HEAR, "bc-resnet", {"blocks": [1, 1]}, "cannot be built"),
        (HEAR, "keras-file", {}, "needs init"),
        (HEAR, "bundle", {}, "needs init"),
        (SPELL, "crnn", {"cell": "rnn"}, "cell must be one of gru, lstm"),
        (SPELL, "crnn", {"time_stride": 3}, "time_stride must be 1, 2 or 4"),
        (SPELL, "ds-cnn", {}, "the blank need 'symbols'"),
        (
            {**SPELL, "task": "anomaly", "decoder": {"name": "reconstruction"}},
            "ds-cnn",
            {},
            r"need.* 'rebuilt' of \(16, 16, 1\)",
        ),
        (
            {
                **DETECT,
                "task": "classify",
                "decoder": {"name": "class"},
                "data": {"train": [{"kind": "picture-folders", "folder": "x"}]},
            },
            "cnn-classifier",
            {"backbone": "plane"},
            "no backbone 'plane'.*plain",
        ),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(content, kind, params, told):
    with pytest.raises(RecipeError, match=told) as caught:
        opened(content, kind, **params)
    assert "\n" not in str(caught.value)


def test_strides_that_do_not_double_cannot_be_fused():
    with pytest.raises(RecipeError, match="strides must double, 8 and 32 do not"):
        opened({**DETECT, "decoder": {"name": "grid", "params": {"strides": [8, 32]}}}, "grid-detector")


def test_a_reshape_that_infers_its_last_axis_lets_channels_go(keras):
    """Two bands of 8 channels become 16 features: without channel 3, features 3 and 11 are gone."""
    from compress.groups.graph import follow_channels
    from compress.groups.remove import remove_channels

    x = image = keras.Input((4, 2, 3))
    x = keras.layers.Conv2D(8, 1, name="conv")(x)
    x = keras.layers.Reshape((4, -1))(x)
    network = keras.Model(image, {"out": keras.layers.Dense(2, name="dense")(x)})
    graph = follow_channels(network)
    (made,) = [item for item in graph.layers if item.layer.name == "conv"]
    smaller = remove_channels(network, graph, frozenset({int(graph.roots(made.out_ids)[3])}))
    kernel, bias = network.get_layer("conv").get_weights()
    kernel[..., 3] = bias[3] = 0
    network.get_layer("conv").set_weights([kernel, bias])
    given = np.random.default_rng(0).normal(0, 1, (1, 4, 2, 3)).astype(np.float32)
    np.testing.assert_allclose(smaller(given)["out"], network(given)["out"], atol=1e-6)
    assert smaller.get_layer("dense").kernel.shape == (14, 2)


def test_multiplications_of_recurrent_layers_and_attention_are_counted(keras):
    from compress.groups.macs import model_macs

    layers = keras.layers
    x = keras.Input((10, 6))
    gates = 4 * (6 * 5 + 5 * 5)
    for layer, wanted in (
        (layers.LSTM(5, return_sequences=True), 10 * gates),
        (layers.LSTM(5), 10 * gates),
        (layers.Bidirectional(layers.LSTM(5, return_sequences=True)), 2 * 10 * gates),
        (layers.GRU(5), 10 * 3 * (6 * 5 + 5 * 5)),
    ):
        assert model_macs(keras.Model(x, layer(x))) == wanted
    y = layers.MultiHeadAttention(2, 4)(x, x)
    # to and from 2 heads of 4 for every step, and each step's 8 values against each step's, twice
    assert model_macs(keras.Model(x, y)) == 10 * 4 * 6 * 8 + 2 * 10 * 10 * 8


def test_an_output_named_as_an_input_has_no_place_in_onnx(keras, tmp_path):
    from compress.export.onnx import export_onnx

    x = keras.Input((4,), name="features")
    network = keras.Model(x, {"features": keras.layers.Dense(4)(x)})
    with pytest.raises(PassError, match="'features' is an input and an output"):
        export_onnx(network, tmp_path / "model.onnx")
