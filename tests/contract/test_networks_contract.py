"""What every network of the table promises: its outputs, widths that follow the multiplier, gradients, pruning, engine files.

Small sizes: the zoo's are measured elsewhere. One more network is one more line in `RECIPES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.recipe import parse_recipe
from edgeai.engines import open_model_file

pytestmark = pytest.mark.compress

SIZE, FRAMES, MELS, LABELS = 32, 16, 16, ("a", "b", "c")
PICTURE = {"kind": "image", "width": SIZE, "height": SIZE}
SOUND = {"kind": "logmel", "frames": FRAMES, "mels": MELS, "hop_samples": 320}
DETECT = {
    "task": "detect",
    "input": PICTURE,
    "decoder": {"name": "grid", "params": {"strides": [8, 16]}},
    "data": {"train": [{"kind": "coco", "folder": "x"}]},
}
CLASSIFY = {
    "task": "classify",
    "input": PICTURE,
    "decoder": {"name": "class"},
    "data": {"train": [{"kind": "picture-folders", "folder": "x"}]},
}
KEYWORD = {
    "task": "keyword",
    "input": SOUND,
    "decoder": {"name": "keyword"},
    "data": {"train": [{"kind": "speech", "folder": "x"}]},
}
TRANSCRIBE = {**KEYWORD, "task": "transcribe", "decoder": {"name": "ctc"}}
ANOMALY = {**KEYWORD, "task": "anomaly", "decoder": {"name": "reconstruction"}}
MAPS = {"box_8": (4, 4, 4), "box_16": (2, 2, 4), "class_8": (4, 4, 3), "class_16": (2, 2, 3)}
WORDS, SYMBOLS = {"keyword": (3,)}, {"symbols": (4, 4)}

# network: (recipe, parameters, outputs without the batch)
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "grid-detector": (DETECT, {"multiplier": 0.25, "depth": 1, "head_channels": 16}, MAPS),
    "plain-detector": (DETECT, {"multiplier": 0.5}, MAPS),
    "cnn-classifier": (CLASSIFY, {"multiplier": 0.25, "depth": 1}, {"class": (3,)}),
    "ds-tc-resnet": (KEYWORD, {"multiplier": 0.25}, WORDS),
    "ds-cnn": (KEYWORD, {"multiplier": 0.25}, WORDS),
    "bc-resnet": (KEYWORD, {"multiplier": 1.0, "blocks": [2, 1, 1, 1], "sub_bands": 2}, WORDS),
    "crnn": (TRANSCRIBE, {"multiplier": 0.25, "layers": 1, "time_stride": 4}, SYMBOLS),
    "conformer-lite": (TRANSCRIBE, {"multiplier": 0.25, "blocks": 1, "time_stride": 4}, SYMBOLS),
    "transformer": (TRANSCRIBE, {"multiplier": 0.25, "blocks": 1, "time_stride": 4}, SYMBOLS),
    "dense-autoencoder": (ANOMALY, {"multiplier": 0.5, "layers": 2}, {"rebuilt": (FRAMES, MELS, 1)}),
}
FROM_A_FILE = {"yolox-onnx", "keras-file", "bundle"}


def recipe_of(kind, **params):
    content, small, _ = RECIPES[kind]
    passes = [{"kind": "train", "fit": {"steps": 1}}, {"kind": "quantize"}]
    network = {"kind": kind, "params": {**small, **params}}
    return parse_recipe(
        {"name": "n", "labels": LABELS, **content, "network": network, "passes": passes}, where="here"
    )


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Each network once; its batch norms have statistics, so that outputs spread and nothing folds away."""
    from compress.networks import open_network
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    made: dict[str, Any] = {}

    def build(kind):
        if kind not in made:
            keras.utils.set_random_seed(0)
            made[kind] = open_network(recipe_of(kind), data_root=tmp_path_factory.getbasetemp())
            rng = np.random.default_rng(0)
            for layer in made[kind].layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    weights = [rng.uniform(0.5, 1, w.shape).astype(np.float32) for w in layer.get_weights()]
                    layer.set_weights(weights)
        return made[kind]

    return build


@pytest.fixture(params=sorted(RECIPES))
def kind(request):
    return request.param


def inputs_for(network, count, seed=0):
    shape = network.inputs[0].shape[1:]
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


def test_every_network_of_the_table_is_here():
    from compress.networks import NETWORKS

    assert set(RECIPES) | FROM_A_FILE == set(NETWORKS)


def test_it_has_the_outputs_that_its_task_needs(networks, kind):
    network = networks(kind)
    assert {name: tuple(t.shape[1:]) for name, t in network.output.items()} == RECIPES[kind][2]


def test_layers_have_names_that_say_where_they_stand(networks, kind):
    """So that a recipe can freeze "stem" and "stage", or keep all but the head."""
    parts = ("stem", "stage", "fusion_", "head", "encoder", "bottleneck", "decoder", *RECIPES[kind][2])
    outsiders = {"image", "features", "bands_as_channels", "window"}
    names = [layer.name for layer in networks(kind).layers]
    assert [name for name in names if not name.startswith(parts) and name not in outsiders] == []
    body = [n for n in names if n.startswith(("stem", "stage", "encoder"))]
    heads = [n for n in names if n.startswith(("head", *RECIPES[kind][2]))]
    assert body and heads


def test_it_widens_with_the_multiplier(networks, kind):
    from compress.groups.macs import model_macs
    from compress.networks import open_network

    wide = 4 * recipe_of(kind).network.params["multiplier"]
    wider = open_network(recipe_of(kind, multiplier=wide), data_root=None)
    small = networks(kind)
    assert wider.count_params() > small.count_params()
    assert model_macs(wider) > 1.5 * model_macs(small)


def test_every_trainable_weight_has_a_finite_gradient(networks, kind):
    import tensorflow as tf

    network = networks(kind)
    statistics = [variable.numpy() for variable in network.non_trainable_variables]
    with tf.GradientTape() as tape:
        outputs = network(inputs_for(network, 4), training=True)
        loss = sum(tf.reduce_mean(tf.square(o - 1.0)) for o in outputs.values())
    found = tape.gradient(loss, network.trainable_variables)
    for variable, value in zip(network.non_trainable_variables, statistics, strict=True):
        variable.assign(value)
    names = [v.path for v, g in zip(network.trainable_variables, found, strict=True) if g is None]
    assert names == []
    assert all(np.isfinite(np.array(g)).all() for g in found)


def test_it_runs_pruned_to_six_tenths(networks, kind):
    from compress.groups.macs import model_macs
    from compress.prune.channels import prune_channels

    network = networks(kind)
    smaller, report = prune_channels(network, macs_ratio=0.6, round_to=4)
    assert model_macs(smaller) == report["macs_after"] <= 0.6 * model_macs(network)
    outputs = smaller(inputs_for(network, 1), training=False)
    assert {name: tuple(t.shape[1:]) for name, t in outputs.items()} == RECIPES[kind][2]
    assert all(np.isfinite(np.array(value)).all() for value in outputs.values())


def test_int8_is_integer_throughout_and_near_the_network(networks, kind, tmp_path):
    from compress.quantize.check import not_done
    from compress.quantize.tflite import convert_tflite

    network = networks(kind)
    given = inputs_for(network, 6)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert_tflite(network, "int8", [x[None] for x in given]))
    assert not_done(path.read_bytes(), "int8") == []
    got = run_file(path, given[:1])
    wanted = {name: np.array(value) for name, value in network(given[:1], training=False).items()}
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        assert np.abs(got[name] - value).max() < 0.25 * (float(np.ptp(value)) + 1e-6), name


def run_file(path, given):
    """Through the device's engine, quantised and dequantised here: only pictures and features have edges of their own."""
    with open_model_file(path) as engine:
        (spec,) = engine.inputs
        if spec.scale is None:
            return engine.run({spec.name: given})
        quantised = np.clip(np.rint(given / spec.scale) + spec.zero_point, -128, 127).astype(np.int8)
        said = engine.run({spec.name: quantised})
        return {o.name: (said[o.name].astype(np.float32) - o.zero_point) * o.scale for o in engine.outputs}


def test_onnx_says_what_the_network_says(networks, kind, tmp_path):
    from compress.export.onnx import export_onnx

    network = networks(kind)
    path = tmp_path / "model.onnx"
    export_onnx(network, path)
    given = inputs_for(network, 1)
    with open_model_file(path) as engine:
        got = engine.run({engine.inputs[0].name: given})
    wanted = network(given, training=False)
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], atol=1e-4)
