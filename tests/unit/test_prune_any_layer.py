"""Scores, scan and compensation on layers of every kind: recurrent, attention, models inside models, squeeze-excite."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.compress

SHAPE = (8, 8, 4)


def pictures(keras):
    """A nested model with squeeze-excite, grouped, separable and transposed convolutions."""
    layers = keras.layers
    x = image = keras.Input((8, 8, 8))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x)))
    x = layers.Multiply()([layers.SeparableConv2D(8, 3, padding="same")(x), layers.Reshape((1, 1, 8))(gate)])
    inner = keras.Model(image, layers.Conv2D(16, 3, groups=2, padding="same")(x), name="inner")
    picture = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same")(picture)
    x = layers.Activation("silu")(layers.BatchNormalization()(inner(x)))
    x = layers.Conv2DTranspose(8, 2, strides=2)(x)
    return keras.Model(picture, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def sequences(keras):
    """Convolution, both directions of a GRU, attention, LSTM."""
    layers = keras.layers
    sound = keras.Input(SHAPE)
    x = layers.TimeDistributed(layers.Dense(6, activation="relu"))(layers.Reshape((8, 32))(sound))
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(x)
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(x)
    y = layers.MultiHeadAttention(4, 4)(x, x)
    x = layers.LSTM(8)(layers.Add()([x, y]))
    return keras.Model(sound, layers.Dense(3)(x))


@pytest.fixture(scope="module", params=[pictures, sequences])
def model(request, keras):
    keras.utils.set_random_seed(1)
    return request.param(keras)


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [
        {"inputs": rng.normal(0, 1, (4, *SHAPE)).astype(np.float32), "targets": rng.integers(0, 3, 4)}
        for _ in range(2)
    ]


def loss(outputs, batch):
    import tensorflow as tf

    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["targets"], logits=outputs)
    )


@pytest.mark.parametrize("kind", ["l1", "activation", "taylor"])
def test_every_channel_has_a_score_of_its_own(model, batches, kind):
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    graph = follow_channels(model)
    scores = score_channels(model, graph, kind, batches=batches, loss=loss)
    for component in graph.components():
        found = [scores[int(r)] for r in component]
        assert np.isfinite(found).all()
        assert len(set(found)) > len(found) // 2


def test_pruned_compensated_and_scanned(model, batches):
    from compress.groups.graph import follow_channels
    from compress.groups.remove import remove_channels
    from compress.prune.scores import score_channels
    from compress.prune.sensitivity import scan_sensitivity
    from compress.prune.target import PruneSettings, Target, prune_to

    settings = PruneSettings(score="l2", compensation="least-squares", round_to=1)
    smaller, report = prune_to(model, Target(macs_ratio=0.6), settings, batches=batches, loss=loss)
    assert report["macs_after"] <= 0.6 * report["macs_before"]
    assert smaller(batches[0]["inputs"]).shape == (4, 3)
    assert report["compensation"]["layers"] >= 2

    graph = follow_channels(model)
    scores = score_channels(model, graph, "l2")
    scan = scan_sensitivity(
        model, graph, scores, lambda: float(loss(model(batches[0]["inputs"]), batches[0])), ratios=(0.5,)
    )
    assert len(scan.components) == len(graph.components())
    for part, component in list(zip(scan.components, graph.components(), strict=True))[-2:]:
        faintest = sorted((int(r) for r in component), key=lambda r: scores[r])
        alone = remove_channels(model, graph, frozenset(faintest[: len(faintest) // 2]))
        value = float(loss(alone(batches[0]["inputs"]), batches[0]))
        assert part.rises[0.5] == pytest.approx(value - scan.base, abs=1e-5)
    assert set(scan.limits(0.1)) <= {item.name for item in graph.layers}


def test_compensation_moves_towards_the_whole(keras, batches):
    from compress.groups.graph import follow_channels
    from compress.groups.remove import remove_channels
    from compress.prune.compensate import compensate

    model = pictures(keras)
    graph = follow_channels(model)
    removed = frozenset(int(r) for component in graph.components() for r in component[::4])
    whole = model(batches[0]["inputs"]).numpy()
    plain, fitted = (
        np.square(net(batches[0]["inputs"]).numpy() - whole).sum()
        for net in (
            remove_channels(model, graph, removed),
            compensate(model, graph, removed, batches)[0],
        )
    )
    assert fitted < plain
