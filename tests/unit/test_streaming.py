"""Streamed networks: a window fed in steps is the window heard at once, in Keras and in the device's engine."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.engines import open_model_file
from edgeai.errors import PassError

pytestmark = [pytest.mark.compress, pytest.mark.usefixtures("keras")]

FRAMES, MELS, CLASSES = 16, 12, 3
KINDS = {"ds-cnn": 8, "ds-tc-resnet": 4, "bc-resnet": 1}  # and their strides over time


def build(kind, *, frames=FRAMES, causal=True):
    from compress.networks.bc_resnet import bc_resnet
    from compress.networks.keyword import ds_cnn, ds_tc_resnet

    size = {"frames": frames, "mels": MELS, "classes": CLASSES, "causal": causal}
    if kind == "bc-resnet":
        return bc_resnet(**size, blocks=(1, 1, 1, 1), sub_bands=2)
    return {"ds-cnn": ds_cnn, "ds-tc-resnet": ds_tc_resnet}[kind](**size, multiplier=0.25)


@pytest.fixture(scope="module")
def networks(keras):
    """Each causal network once, its batch norms with statistics: zeros in front do not stay zeros behind."""
    made = {}

    def open_once(kind):
        if kind not in made:
            keras.utils.set_random_seed(1)
            made[kind] = build(kind)
            spread_norms(made[kind], keras)
        return made[kind]

    return open_once


def spread_norms(network, keras):
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = [rng.uniform(0.3, 1, w.shape).astype(np.float32) for w in layer.get_weights()]
            layer.set_weights(weights)


def sound(frames, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (frames, MELS, 1)).astype(np.float32)


def last_scores(stream, features):
    from compress.networks.streaming import stream_steps

    *_, (_, said) = stream_steps(stream, features)
    return said["keyword"]


@pytest.mark.parametrize("kind, step", [("ds-cnn", 8), ("ds-tc-resnet", 4), ("bc-resnet", 8)])
def test_every_window_in_steps_from_zero_states_is_the_window_at_once(networks, kind, step):
    from compress.networks.streaming import stream_network

    network = networks(kind)
    stream = stream_network(network, step_frames=step)
    clip = sound(40)
    for start in range(0, 40 - FRAMES + 1, 8):
        window = clip[start : start + FRAMES]
        wanted = network(window[None], training=False)["keyword"]
        np.testing.assert_allclose(last_scores(stream, window), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_end_is_the_network_over_all_of_it(networks, kind, keras):
    """After each step: the same convolutions over the whole clip, the last window's positions averaged."""
    from compress.networks.streaming import stream_network, stream_steps

    network, clip = networks(kind), sound(48, seed=1)
    long = build(kind, frames=48)
    long.set_weights(network.get_weights())
    positions = np.array(keras.Model(long.input, long.get_layer("head_pool").input)(clip[None]))[0]
    kernel, bias = network.get_layer("keyword").get_weights()
    stride, step = KINDS[kind], 8
    stream = stream_network(network, step_frames=step)
    for number, (_, said) in enumerate(stream_steps(stream, clip), start=1):
        end = number * step // stride
        if end * stride < FRAMES:
            continue  # the average has not filled up yet
        wanted = positions[end - FRAMES // stride : end].mean((0, 1)) @ kernel + bias
        np.testing.assert_allclose(said["keyword"][0], wanted, atol=1e-4)


def test_a_window_that_no_step_divides_is_heard_up_to_its_last_position(networks, keras):
    """18 frames at a stride of 4 are 5 positions, at 0 to 16: five steps of 4 have heard the same."""
    from compress.networks.streaming import stream_network

    network = build("ds-tc-resnet", frames=18)
    network.set_weights(networks("ds-tc-resnet").get_weights())
    clip = sound(20, seed=2)
    wanted = network(clip[None, :18], training=False)["keyword"]
    np.testing.assert_allclose(last_scores(stream_network(network, step_frames=4), clip), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_network_streams_too(networks, kind):
    from compress.networks.streaming import stream_network
    from compress.prune.channels import prune_channels

    smaller, _ = prune_channels(networks(kind), macs_ratio=0.7, round_to=4)
    window = sound(FRAMES, seed=3)
    wanted = smaller(window[None], training=False)["keyword"]
    np.testing.assert_allclose(last_scores(stream_network(smaller, step_frames=8), window), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_costs_its_share_of_the_window(networks, kind):
    """Nothing is computed twice: only the last dense layer runs once a step and once a window."""
    from compress.groups.macs import model_macs
    from compress.networks.streaming import stream_network

    network = networks(kind)
    whole, step = model_macs(network), model_macs(stream_network(network, step_frames=8))
    dense = int(np.prod(network.get_layer("keyword").kernel.shape))
    assert step - dense == (whole - dense) * 8 // FRAMES


def test_states_are_named_in_pairs_and_begin_with_zeros(networks):
    from compress.networks.streaming import stream_network, zero_states

    stream = stream_network(networks("ds-tc-resnet"), step_frames=4)
    states = zero_states(stream)
    # a stem of 5, six blocks of 9, and the 4 - 1 older positions of the average
    assert [state.shape[1] for state in states.values()] == [4, *[8] * 6, 3]
    assert not any(state.any() for state in states.values())
    assert set(stream.input) == {"features", *states}
    assert set(stream.output) == {"keyword", *(f"next_{name}" for name in states)}
    for name, state in states.items():
        assert stream.output[f"next_{name}"].shape == state.shape


def run_on_the_engine(path, features, step, *, record):
    """Steps through the device's engine, states carried as the engine gives them; the scores after each."""
    with open_model_file(path) as engine:
        inputs = {spec.name: spec for spec in engine.inputs}
        outputs = {spec.name: spec for spec in engine.outputs}
        # zero states are the integers that stand for zero
        state = {
            name: np.full(spec.shape, spec.zero_point if spec.scale else 0, spec.dtype)
            for name, spec in inputs.items()
            if name != "features"
        }
        spec = inputs["features"]
        for start in range(0, len(features), step):
            given = features[None, start : start + step]
            if spec.scale:
                given = np.clip(np.rint(given / spec.scale) + spec.zero_point, -128, 127).astype(np.int8)
            said = engine.run({"features": given, **state})
            state = {name: said[f"next_{name}"] for name in state}
            score = said["keyword"].astype(np.float32)
            if outputs["keyword"].scale:
                score = (score - outputs["keyword"].zero_point) * outputs["keyword"].scale
            record.append(score)
        return inputs, outputs


@pytest.mark.parametrize("kind, step", [("bc-resnet", 8)])
def test_the_devices_engine_streams_as_keras_does(networks, kind, step, tmp_path):
    from compress.networks.streaming import stream_network
    from compress.quantize.tflite import convert_tflite

    stream, clip = stream_network(networks(kind), step_frames=step), sound(24, seed=4)
    path = tmp_path / "stream.tflite"
    path.write_bytes(convert_tflite(stream, "float32"))
    record = []
    run_on_the_engine(path, clip, step, record=record)
    wanted = networks(kind)(clip[None, :FRAMES], training=False)["keyword"]
    np.testing.assert_allclose(record[FRAMES // step - 1], wanted, atol=1e-4)
    np.testing.assert_allclose(record[-1], last_scores(stream, clip), atol=1e-4)


def test_int8_states_go_round_without_loss(networks, tmp_path):
    """State and next state have one scale, so that an integer that comes out goes in again as it is."""
    from compress.networks.streaming import stream_network, stream_steps, streaming_inputs
    from compress.quantize.check import not_done
    from compress.quantize.tflite import convert_tflite

    stream = stream_network(networks("ds-tc-resnet"), step_frames=8)
    clips = [sound(32, seed=10 + n) for n in range(6)]
    path = tmp_path / "stream.tflite"
    path.write_bytes(convert_tflite(stream, "int8", streaming_inputs(stream, clips)))
    assert not_done(path.read_bytes(), "int8") == []
    record = []
    inputs, outputs = run_on_the_engine(path, clips[0], 8, record=record)
    for name, spec in inputs.items():
        assert spec.dtype == "int8"
        if name != "features":
            after = outputs[f"next_{name}"]
            assert (spec.scale, spec.zero_point) == (after.scale, after.zero_point), name
    wanted = [said["keyword"] for _, said in stream_steps(stream, clips[0])]
    span = max(float(np.ptp(w)) for w in wanted)
    assert max(float(np.abs(a - b).max()) for a, b in zip(record, wanted, strict=True)) < 0.1 * span


def test_onnx_streams_too(networks, tmp_path):
    from compress.export.onnx import export_onnx
    from compress.networks.streaming import stream_network

    stream, clip = stream_network(networks("ds-tc-resnet"), step_frames=8), sound(24, seed=5)
    path = tmp_path / "stream.onnx"
    export_onnx(stream, path)
    record = []
    run_on_the_engine(path, clip, 8, record=record)
    np.testing.assert_allclose(record[-1], last_scores(stream, clip), atol=1e-4)


@pytest.mark.parametrize(
    "kind, step, told",
    [
        ("ds-tc-resnet", 6, "steps of 6 frames.*stride of 4 over time.*multiple of 4 below 16"),
        ("ds-cnn", 4, "multiple of 8 below 16"),
        ("bc-resnet", 0, "steps of 0 frames"),
        ("bc-resnet", -3, "steps of -3 frames"),
        ("bc-resnet", 16, "below 16"),
    ],
)
def test_steps_that_do_not_fit_are_refused(networks, kind, step, told):
    from compress.networks.streaming import stream_network

    with pytest.raises(PassError, match=told):
        stream_network(networks(kind), step_frames=step)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_looks_ahead_is_refused(kind):
    from compress.networks.streaming import stream_network

    with pytest.raises(
        PassError, match=r"layer '(stem|stage1_block1_time|head_depthwise)\w*' .*causal = true"
    ):
        stream_network(build(kind, causal=False), step_frames=8)


def test_what_mixes_time_otherwise_is_refused_by_name(keras):
    from compress.networks.streaming import stream_network

    layers = keras.layers

    def over_time(*added):
        x = features = keras.Input((FRAMES, MELS, 1), name="features")
        for layer in added:
            x = layer(x)
        return keras.Model(features, {"keyword": x})

    shared = layers.Conv2D(1, (1, 3), padding="same", name="shared")
    dense = layers.Dense(2)
    for network, told in (
        (over_time(layers.Flatten(name="flat"), dense), "'flat' .Flatten. may mix frames"),
        (over_time(layers.MaxPooling2D(3, 1, name="peak")), "'peak' pools"),
        (over_time(layers.ZeroPadding2D(1, name="pad")), "'pad' pads the end"),
        (over_time(layers.Cropping2D(1, name="cut")), "'cut' cuts off frames"),
        (over_time(layers.Reshape((4, 4 * MELS, 1), name="fold")), "'fold' reshapes the time"),
        (over_time(layers.Conv2D(2, (3, 1), name="short")), "'short' makes"),
        (
            over_time(layers.ZeroPadding2D(((1, 0), (0, 0))), layers.Conv2D(2, (3, 1), name="near")),
            "'near' makes",
        ),
        (over_time(shared, shared), "'shared' is used twice"),
        (over_time(layers.Conv2D(2, 1)), "runs along the frames"),
    ):
        with pytest.raises(PassError, match=told):
            stream_network(network, step_frames=8)
    with pytest.raises(PassError, match="functional"):
        stream_network(keras.Sequential([dense]), step_frames=8)


def test_a_network_of_pools_and_gates_streams(keras):
    """Layers that none of ours has over time, but somebody's may."""
    from compress.networks.blocks import conv_norm
    from compress.networks.streaming import stream_network

    layers = keras.layers
    x = features = keras.Input((FRAMES, MELS, 1), name="features")
    x = conv_norm(x, 8, kernel=3, causal=True, name="stem")
    x = layers.MaxPooling2D(2)(x)
    y = layers.Conv2D(8, 1, activation="sigmoid")(x)
    x = layers.Concatenate()([layers.Multiply()([x, y]), x])
    x = layers.AveragePooling2D((2, 1))(conv_norm(x, 8, kernel=(3, 1), causal=True, name="deep"))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(8, activation="relu")(x)
    network = keras.Model(features, {"keyword": layers.Dense(2)(x)})
    spread_norms(network, keras)
    window = sound(FRAMES, seed=6)
    wanted = network(window[None], training=False)["keyword"]
    for step in (4, 8):
        stream = stream_network(network, step_frames=step)
        np.testing.assert_allclose(last_scores(stream, window), wanted, atol=1e-4)
