"""SiLUs spread: the same in float, and far nearer to it in int8 where channels are of unlike reach."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytestmark = pytest.mark.compress
REACHES = (170.0, 40.0, 1.0, 0.5, 12.0, 3.0, 90.0, 0.7)


def samples_of(network, count=8):
    rng = np.random.default_rng(0)
    shape = network.inputs[0].shape[1:]
    name = network.inputs[0].name
    return [{name: rng.uniform(-1, 1, (1, *shape)).astype(np.float32)} for _ in range(count)]


def unlike_network(keras, *, norm=False, tail=None, written_out=False):
    """A first layer whose channels reach REACHES, and a depthwise one that makes them alike again."""
    layers = keras.layers
    keras.utils.set_random_seed(3)
    picture = keras.Input((16, 16, 3), name="image")
    first = layers.Conv2D(len(REACHES), 3, padding="same", name="stem")
    x = first(picture)
    if norm:
        x = layers.BatchNormalization(name="norm")(x)
    if written_out:
        x = layers.Multiply(name="product")([layers.Activation("sigmoid", name="gate")(x), x])
    else:
        x = layers.Activation("silu", name="act")(x)
    second = layers.DepthwiseConv2D(3, padding="valid", name="depthwise")
    y = second(layers.ZeroPadding2D(1)(x))
    if tail is not None:
        y = tail(x, y)
    network = keras.Model(picture, {"out": layers.Conv2D(4, 1, name="head")(y)})
    reach = np.array(REACHES, np.float32)
    for layer, factor in ((first, reach), (second, 1 / reach[:, None])):
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * factor, bias])
    return network


def noise_db(keras, network, samples, **settings):
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.observe import Observer
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    content, told = quantize_network(network, PostTraining(**settings), samples)
    observer, noise, power = Observer(content), 0.0, 0.0
    for sample in samples:
        truth = np.asarray(network(sample["image"])["out"])
        observer.run(sample)
        noise += float(((observer.value(TFLiteGraph(content).outputs[0]) - truth) ** 2).sum())
        power += float(((truth - truth.mean()) ** 2).sum())
    return 10 * np.log10(power / noise), told


@pytest.mark.parametrize(
    ("norm", "written_out"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_says_the_same_in_float(keras, norm, written_out):
    """Also where a network was imported, whose SiLUs are a sigmoid and a product."""
    from compress.quantize.spread import spread_silus

    network = unlike_network(keras, norm=norm, written_out=written_out)
    samples = samples_of(network)
    spread, names = spread_silus(network, samples)
    assert names == ["stem"]
    wanted = np.asarray(network(samples[0]["image"], training=False)["out"])
    assert np.asarray(spread(samples[0]["image"], training=False)["out"]) == pytest.approx(wanted, abs=1e-4)
    # the network itself is left as it was
    assert np.asarray(network(samples[0]["image"], training=False)["out"]) == pytest.approx(wanted)


def test_channels_reach_alike_afterwards(keras):
    from compress.quantize.spread import REACH, spread_silus

    network = unlike_network(keras)
    samples = samples_of(network, 16)
    spread, _ = spread_silus(network, samples)
    made = keras.Model(spread.input, spread.get_layer("stem").output)
    reached = np.max([np.asarray(made(sample["image"])).max((0, 1, 2)) for sample in samples], 0)
    assert (reached > 0.4 * REACH).all()
    assert (reached < 1.6 * REACH).all()


def test_int8_gains(keras, monkeypatch):
    """One step for all channels leaves next to nothing of the small ones."""
    from compress.quantize import spread

    network = unlike_network(keras)
    samples = samples_of(network)
    after, told = noise_db(keras, network, samples)
    assert told["spread_silus"] == ["stem"]
    monkeypatch.setattr(spread, "NOISE", 1.0)
    before, told = noise_db(keras, network, samples)
    assert "spread_silus" not in told
    assert after > before + 10


def test_one_scale_a_tensor_cannot_tell_the_gate(keras):
    network = unlike_network(keras)
    assert "spread_silus" not in noise_db(keras, network, samples_of(network), per_channel=False)[1]


def test_what_else_reads_a_silu_leaves_it_alone(keras):
    """A sum or an output would have to be scaled back by an operation of its own."""
    from compress.quantize.spread import spread_silus

    network = unlike_network(keras, tail=lambda x, y: keras.layers.Add()([x, y]))
    assert spread_silus(network, samples_of(network)) == (network, [])


def test_a_gate_that_something_else_reads_stays(keras):
    from compress.quantize.spread import spread_silus

    layers = keras.layers
    network = unlike_network(keras, written_out=True)
    gate = network.get_layer("gate").output
    both = keras.Model(network.input, {"out": network.output["out"], "gate": layers.Flatten()(gate)})
    assert spread_silus(both, samples_of(both)) == (both, [])


def test_all_that_reads_it_is_scaled_back(keras):
    from compress.quantize.spread import spread_silus

    layers = keras.layers

    def tail(x, y):
        pooled = layers.AveragePooling2D(3, 1, "same")(x)
        return layers.Concatenate()([layers.Conv2D(8, 1, name="side")(pooled), y])

    network = unlike_network(keras, tail=tail)
    samples = samples_of(network)
    spread, names = spread_silus(network, samples)
    assert names == ["stem"]
    wanted = np.asarray(network(samples[0]["image"])["out"])
    assert np.asarray(spread(samples[0]["image"])["out"]) == pytest.approx(wanted, abs=2e-3, rel=1e-4)


def test_networks_that_need_none_come_back_themselves(keras):
    from compress.quantize.spread import spread_silus

    layers = keras.layers
    picture = keras.Input((16, 16, 3), name="image")
    alike = keras.Model(
        picture, {"out": layers.Conv2D(2, 1)(layers.Conv2D(8, 3, activation="silu")(picture))}
    )
    relu = keras.Model(picture, {"out": layers.Conv2D(8, 3, activation="relu")(picture)})
    for network in (alike, relu):
        assert spread_silus(network, samples_of(network)) == (network, [])


def test_training_that_rounds_has_the_gate_too(keras):
    from compress.quantize.aware.network import make_aware

    network = unlike_network(keras)
    samples = samples_of(network)
    names = [layer.name for layer in make_aware(network, samples).layers]
    assert "stem_gate_size" in names
    one_scale = make_aware(network, samples, per_channel=False)
    assert "stem_gate_size" not in [layer.name for layer in one_scale.layers]


def test_channels_that_are_nothing_are_not_blown_up(keras):
    from compress.quantize.spread import spread_silus

    network = unlike_network(keras)
    kernel, bias = network.get_layer("stem").get_weights()
    kernel[..., 0], bias[0] = 0, 0
    network.get_layer("stem").set_weights([kernel, bias])
    samples = samples_of(network)
    spread, names = spread_silus(network, samples)
    assert names == ["stem"]
    wanted = np.asarray(network(samples[0]["image"])["out"])
    assert np.asarray(spread(samples[0]["image"])["out"]) == pytest.approx(wanted, abs=1e-3)


def test_nvidias_builder_takes_a_gate(keras):
    if not os.environ.get("EDGEAI_REQUIRE_TRT"):
        pytest.importorskip("tensorrt_rtx_bindings", exc_type=ImportError)
    from compress.export.onnx_qdq import export_qdq
    from compress.export.qdq_lint import lint_qdq
    from compress.export.trt_gate import check_for_tensorrt
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining

    network = unlike_network(keras)
    content, told = quantize_network(network, PostTraining(), samples_of(network))
    assert told["spread_silus"] == ["stem"]
    exported = export_qdq(content)
    assert lint_qdq(exported) == []
    report = check_for_tensorrt(exported)
    assert report.passed, (report.faults, report.errors)
