"""What removed channels leave behind: exact where it is constant, and less error where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def network(keras, *, padding="valid", norm=False, activation="silu"):
    """conv a (16) -> depthwise -> conv b -> head; nothing of b's bias where a norm follows."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding=padding, activation=activation, name="a")(x)
    x = layers.DepthwiseConv2D(3, padding=padding, name="d")(x)
    x = layers.Conv2D(8, 3, padding=padding, use_bias=not norm, name="b")(x)
    x = layers.BatchNormalization(name="b_norm")(x) if norm else x
    x = layers.Activation(activation)(x)
    return keras.Model(image, layers.Dense(4, name="head")(layers.Flatten()(x)))


def removing(model, layer, channels):
    from compress.groups.graph import follow_channels

    graph = follow_channels(model)
    item = next(item for item in graph.layers if item.layer.name == layer)
    roots = graph.roots(item.out_ids)
    return graph, frozenset(int(roots[c]) for c in channels)


def worst(smaller, model, batches):
    x = batches[0]["inputs"]
    said = model(x).numpy()
    return float(np.abs(smaller(x).numpy() - said).max() / np.abs(said).max())


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("method", ["mean", "least-squares"])
def test_a_constant_moves_into_the_next_bias_or_norm(keras, batches, norm, method):
    from compress.groups.remove import remove_channels
    from compress.prune.compensate import compensate

    model = network(keras, norm=norm)
    kernel, bias = model.get_layer("a").get_weights()
    gone = (2, 5, 11)
    kernel[..., gone], bias[list(gone)] = 0, 2.0  # these say the same of every picture
    model.get_layer("a").set_weights([kernel, bias])
    graph, removed = removing(model, "a", gone)
    assert worst(remove_channels(model, graph, removed), model, batches) > 0.01
    before = model.get_weights()
    smaller, report = compensate(model, graph, removed, batches, method=method)
    assert worst(smaller, model, batches) < 1e-5
    assert report["left"] == {}
    assert smaller.get_layer("a").filters == 13
    for mine, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, wanted)


def test_a_twin_takes_the_kernel_over(keras, batches):
    """Half of the channels are copies of the others, scaled: the kernel can make up for all of them, padding or not."""
    from compress.groups.remove import remove_channels
    from compress.prune.compensate import compensate

    model = network(keras, padding="same", activation="relu")
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 8:], bias[8:] = 3 * kernel[..., :8], 3 * bias[:8]
    model.get_layer("a").set_weights([kernel, bias])
    graph, removed = removing(model, "a", range(8, 16))
    plain = worst(remove_channels(model, graph, removed), model, batches)
    mean, fitted = (
        worst(compensate(model, graph, removed, batches, method=method)[0], model, batches)
        for method in ("mean", "least-squares")
    )
    assert fitted < 0.3 * mean < 0.3 * plain


@pytest.mark.parametrize(
    ("strides", "padding", "dilation"), [(1, "same", 2), (2, "same", 1), (2, "valid", 1)]
)
def test_what_a_convolution_reads_is_found(keras, strides, padding, dilation):
    from compress.prune.compensate import _sampled

    rng = np.random.default_rng(0)
    layer = keras.layers.Conv2D(4, (3, 2), strides=strides, padding=padding, dilation_rate=dilation)
    read = rng.normal(0, 1, (2, 7, 6, 3)).astype(np.float32)
    said = layer(read).numpy()
    patches, outputs = _sampled(layer, read, said, rng)
    kernel, bias = layer.get_weights()
    assert len(patches) == said[..., 0].size
    np.testing.assert_allclose(patches @ kernel.reshape(-1, 4) + bias, outputs, atol=1e-5)


def test_sounds_and_causal_padding(keras):
    from compress.prune.compensate import _sampled

    rng = np.random.default_rng(0)
    layer = keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2)
    read = rng.normal(0, 1, (2, 9, 3)).astype(np.float32)
    said = layer(read).numpy()
    patches, outputs = _sampled(layer, read, said, rng)
    np.testing.assert_allclose(patches @ layer.get_weights()[0].reshape(-1, 4), outputs, atol=1e-5)


def test_what_cannot_be_corrected_is_named(keras, batches):
    from compress.prune.compensate import compensate

    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(16, 3, activation="silu", name="a")(x)
    x = keras.layers.Conv2D(8, 1, use_bias=False, name="bare")(x)
    model = keras.Model(image, x)
    graph, removed = removing(model, "a", range(4))
    _, report = compensate(model, graph, removed, batches)
    assert report["left"] == {"bare": "neither a bias nor a batch norm behind it"}
    with pytest.raises(PassError, match="got no batch"):
        compensate(model, graph, removed, [])
    broken = [{"inputs": np.full((1, 8, 8, 3), np.nan, np.float32)}]
    with pytest.raises(PassError, match="gives NaN or infinity"):
        compensate(model, graph, removed, broken)
    with pytest.raises(PassError, match="no input"):
        compensate(model, graph, removed, [{"inputs": {"other": np.zeros((1, 8, 8, 3), np.float32)}}])


def test_of_large_inputs_only_the_first_are_looked_at(monkeypatch):
    from compress.prune import compensate as module

    given = [{"inputs": np.full((40, 8, 8, 3), n, np.float32)} for n in range(3)]
    assert len(module._joined(given)) == 120
    monkeypatch.setattr(module, "MAX_NUMBERS", 50 * 8 * 8 * 3)
    assert module._joined(given)[:, 0, 0, 0].tolist() == [0.0] * 40 + [1.0] * 10
    monkeypatch.setattr(module, "MAX_NUMBERS", 1)
    assert len(module._joined(given)) == module.LEAST_EXAMPLES
