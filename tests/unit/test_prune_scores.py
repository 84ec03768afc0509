"""Every score puts a planted useless channel last; what a score lacks is told in one line."""

from __future__ import annotations

import numpy as np
import pytest
from prune_networks import DEAD, kill, loss, small

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def of_layer(graph, scores, name):
    item = next(item for item in graph.layers if item.layer.name == name)
    return np.array([scores[int(r)] for r in graph.roots(item.out_ids)])


@pytest.mark.parametrize("kind", ["l1", "l2", "bn-gamma", "taylor", "activation"])
def test_useless_channels_come_last(keras, batches, kind):
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    model = small(keras)
    for layer in ("a", "b"):  # one component: a channel is useless only where both layers have nothing to say
        kill(model, layer, DEAD)
    graph = follow_channels(model)
    scores = score_channels(model, graph, kind, batches=batches, loss=loss)
    found = of_layer(graph, scores, "a")
    assert set(np.argsort(found)[:2]) == set(DEAD)
    assert found[list(DEAD)].max() < 1e-6 < np.delete(found, DEAD).min()
    assert set(scores) >= {int(r) for component in graph.components() for r in component}


@pytest.mark.parametrize("kind", ["l1", "l2", "bn-gamma", "activation"])
def test_components_are_comparable(keras, batches, kind):
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    model = small(keras)
    model.get_layer("c").set_weights([1000 * w for w in model.get_layer("c").get_weights()])
    graph = follow_channels(model)
    scores = score_channels(model, graph, kind, batches=batches)
    for component in graph.components():
        assert np.mean([scores[int(r)] for r in component]) == pytest.approx(1)


def test_taylor_is_the_loss_to_first_order(keras, batches):
    """A channel faint enough: what its removal really adds to the loss, squared, is its score (up to the common scale)."""
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    model = small(keras, norm=False)
    head = model.get_layer("head")
    faint = [w * 1e-3 if w.ndim > 1 else w for w in head.get_weights()]
    head.set_weights(faint)
    graph = follow_channels(model)
    one = batches[:1]
    scores = score_channels(model, graph, "taylor", batches=one, loss=loss)
    whole = float(np.mean(loss(model(one[0]["inputs"]), one[0])))
    changes = []
    for channel in range(24):
        kernel = faint[0].copy()
        kernel[channel] = 0
        head.set_weights([kernel, faint[1]])
        changes.append(float(np.mean(loss(model(one[0]["inputs"]), one[0]))) - whole)
    found = of_layer(graph, scores, "c")
    loud = np.abs(changes) > 1e-5  # float32 leaves no digits of the others
    assert loud.sum() >= 5
    np.testing.assert_allclose(
        found[loud] / found[loud].sum(), np.square(changes)[loud] / np.square(changes)[loud].sum(), atol=0.05
    )


def test_what_a_score_lacks_is_told(keras, batches):
    from compress.groups.graph import follow_channels
    from compress.prune.scores import score_channels

    model = small(keras, norm=False)
    graph = follow_channels(model)
    with pytest.raises(PassError, match="'activation' needs batches"):
        score_channels(model, graph, "activation")
    with pytest.raises(PassError, match="'taylor' needs a loss"):
        score_channels(model, graph, "taylor", batches=batches)
    with pytest.raises(PassError, match="got no batch"):
        score_channels(model, graph, "taylor", batches=[], loss=loss)
    with pytest.raises(PassError, match="no batch norm"):
        score_channels(model, graph, "bn-gamma")
    with pytest.raises(PassError, match=r"no score 'l3'.*l1, l2"):
        score_channels(model, graph, "l3")
    broken = [{**batches[0], "inputs": np.full((4, 8, 8, 3), np.nan, np.float32)}]
    with pytest.raises(PassError, match="score NaN or infinity"):
        score_channels(model, graph, "activation", batches=broken)
