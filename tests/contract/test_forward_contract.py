"""What a training step calls is the network itself, for every network of the table: outputs and statistics agree."""

from __future__ import annotations

import numpy as np
import pytest
from test_networks_contract import RECIPES, recipe_of

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def open_kind(tmp_path_factory):
    from compress.networks import open_network
    from compress.quiet import start_tensorflow

    start_tensorflow()
    root = tmp_path_factory.mktemp("data")
    return lambda kind: open_network(recipe_of(kind), data_root=root)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_copy_for_training_computes_the_same(open_kind, kind):
    import tensorflow as tf

    from compress.train.forward import forward_network

    network = open_kind(kind)
    copied = forward_network(network, "float32")
    assert copied is not network, "it could not be copied"
    inputs = np.random.default_rng(0).random((2, *network.inputs[0].shape[1:]), np.float32)
    trainable = [v.value for v in network.trainable_variables]
    others = [v.value for v in network.non_trainable_variables]
    wanted, mine = (n.stateless_call(trainable, others, inputs, training=True) for n in (network, copied))
    for one, other in zip(tf.nest.flatten(mine), tf.nest.flatten(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(other).max() + 1e-3))
    mixed = forward_network(network, "mixed_bfloat16")
    outputs, _ = mixed.stateless_call(trainable, others, inputs, training=True)
    assert {output.dtype.name for output in tf.nest.flatten(outputs)} == {"float32"}
