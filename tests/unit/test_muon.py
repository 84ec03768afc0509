"""Muon: the same as Keras' on dense kernels, convolutions as the matrices that they are, and nothing else moved by it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from train_small import by_keras, loss, make, network, stops_at

from compress.train.fit import FitSettings, fit
from compress.train.masks import hold_masks, zero_masks
from compress.train.muon import muon_kernels, orthogonalized
from edgeai.errors import DataError

pytestmark = pytest.mark.compress

SETTINGS = FitSettings(steps=6, learning_rate=0.02, average=0.0, optimizer="muon", save_every_s=0)


def trained(net, *, make=make, checkpoint=None, masks=None, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return fit(net, make, loss, settings, description="small", checkpoint=checkpoint, masks=masks)


def test_it_is_keras_muon(keras):
    def dense():
        keras.utils.set_random_seed(0)
        picture = keras.Input((8, 8, 2))
        x = keras.layers.Flatten()(picture)
        for name, units in (("wide", 160), ("narrow", 8)):
            x = keras.layers.Dense(units, activation="relu", name=name)(x)
        return keras.Model(picture, {"class": keras.layers.Dense(4, name="head")(x)})

    muon = keras.optimizers.Muon(0.02, weight_decay=0.05, global_clipnorm=0.5, exclude_layers=["head"])
    muon.adam_weight_decay = 0.05
    muon.exclude_from_weight_decay(var_names=["bias"])
    wanted, mine = by_keras(dense(), muon), dense()
    trained(mine, weight_decay=0.05, clip_norm=0.5, warm_up=0.0)
    for one, other in zip(mine.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 24, 16), (3, 3, 2, 64), (5, 40), (40, 5)])
@pytest.mark.parametrize("decades", [0, 5])
def test_all_directions_become_alike(keras, shape, decades):
    """Also those that were 100,000 times as weak, and as in float64 round by round."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    rank = min(rows, columns)
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((rows, rank)))
    right, _ = np.linalg.qr(rng.standard_normal((columns, rank)))
    given = left * np.logspace(0, -decades, rank) @ right.T
    made = orthogonalized(given.reshape(shape).astype(np.float32)).numpy()
    assert made.shape == shape
    wanted = given / np.linalg.norm(given)
    for _ in range(5):
        square = wanted @ wanted.T
        wanted = 3.4445 * wanted + (-4.7750 * square + 2.0315 * square @ square) @ wanted
    wanted *= 0.2 * math.sqrt(max(rows, columns))
    error = np.linalg.norm(made.reshape(rows, columns) - wanted) / np.linalg.norm(wanted)
    assert error < 2e-3
    if not decades:
        values = np.linalg.svd(made.reshape(rows, columns), compute_uv=False)
        assert values.max() < 1.8 * values.min()


def test_a_gradient_of_nothing_moves_nothing(keras):
    assert not orthogonalized(np.zeros((3, 3, 4, 8), np.float32)).numpy().any()


def test_only_kernels_that_are_matrices_are_its(keras):
    layers = keras.layers
    given = keras.Input((16, 16, 4))
    x = layers.Conv2D(8, 3, name="plain")(given)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.BatchNormalization(name="norm")(x)
    inner = keras.Input((10, 10, 8))
    x = keras.Model(inner, layers.Conv2D(6, 1, name="nested")(inner), name="block")(x)
    x = layers.GRU(5, name="recurrent")(layers.Reshape((100, 6))(x))
    outputs = layers.Dense(3, name="head")(layers.Dense(7, name="hidden")(x))
    net = keras.Model(given, outputs)
    chosen = muon_kernels(net)
    assert {v.path.split("/")[-2] for v in net.trainable_variables if id(v) in chosen} == {
        "plain",
        "nested",
        "hidden",
    }


def test_frozen_and_masked_weights_stay(keras):
    frozen = network()
    before = frozen.get_layer("second").kernel.numpy()
    trained(frozen, freeze=("second",))
    np.testing.assert_array_equal(frozen.get_layer("second").kernel.numpy(), before)

    sparse = network()
    kernel = sparse.get_layer("second").kernel
    zeroed = np.random.default_rng(0).random(kernel.shape) < 0.5
    kernel.assign(np.where(zeroed, 0, kernel.numpy()))
    trained(sparse, masks=hold_masks(zero_masks(sparse)))
    assert not kernel.numpy()[zeroed].any()
    assert kernel.numpy()[~zeroed].all()


def test_it_goes_on_step_for_step(keras, tmp_path):
    whole, again = network(), network(seed=3)
    trained(whole)
    path = tmp_path / "fit.ckpt"
    with pytest.raises(DataError):
        trained(network(), make=stops_at(4, DataError("a broken picture")), checkpoint=path)
    assert trained(again, checkpoint=path).resumed_from == 4
    for mine, wanted in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_of_another_optimizer_starts_over(keras, tmp_path, capsys):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(DataError):
        trained(
            network(), make=stops_at(4, DataError("a broken picture")), checkpoint=path, optimizer="adamw"
        )
    assert trained(network(), checkpoint=path).resumed_from == 0
    assert "is of another training" in capsys.readouterr().err
