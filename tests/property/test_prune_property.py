"""Any network: without a channel it says what it said when nobody listened to that channel."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import SIZE, STEPS, random_network, random_sequences

pytestmark = pytest.mark.compress


def random_removal(graph, rng, share=0.4):
    """Random classes of every component, none of which leaves a layer without a channel."""
    removed = frozenset(
        int(root) for component in graph.components() for root in component if rng.random() < share
    )
    for item in graph.layers:
        for ids in (item.in_ids, item.out_ids):
            roots = {int(r) for r in graph.roots(ids)}
            if roots and roots <= removed:
                removed -= {min(roots)}
    return removed


def assert_same(got, wanted):
    for name in wanted:
        assert got[name].shape == wanted[name].shape
        scale = float(np.abs(wanted[name]).max()) + 1e-6
        np.testing.assert_allclose(np.array(got[name]) / scale, np.array(wanted[name]) / scale, atol=1e-4)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_a_pruned_network_is_the_whole_one_with_those_channels_unheard(seed):
    check_removal(random_network, seed, lambda rng: rng.normal(0, 1, (2, SIZE, SIZE, 3)).astype(np.float32))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_so_are_recurrent_layers_and_attention(seed):
    check_removal(random_sequences, seed, lambda rng: rng.integers(0, 9, (2, STEPS)))


def check_removal(build, seed, draw):
    from compress.groups.graph import follow_channels
    from compress.groups.macs import macs_without, model_macs, parameters_without
    from compress.groups.remove import remove_channels
    from compress.groups.zero import zero_channels

    rng = np.random.default_rng(seed)
    model = build(rng)
    graph = follow_channels(model)
    removed = random_removal(graph, rng)
    given_inputs = draw(rng)
    smaller, zeroed = remove_channels(model, graph, removed), zero_channels(model, graph, removed)
    wanted = zeroed(given_inputs, training=False)
    assert_same(smaller(given_inputs, training=False), wanted)
    assert model_macs(smaller) == macs_without(graph, removed)
    assert smaller.count_params() == parameters_without(graph, removed)
    assert removed == frozenset() or smaller.count_params() < model.count_params()
    counted = Counter(type(layer).__name__ for layer in smaller.layers)
    assert counted == Counter(type(layer).__name__ for layer in model.layers)
    # unheard: whatever the removed channels say, nothing changes
    for (name, index), slot in graph.weights.items():
        for axis, ids in enumerate(slot.axes):
            if ids is None or axis == slot.reads:
                continue
            variable = zeroed.get_layer(name).weights[index]
            values = np.moveaxis(variable.numpy(), axis, -1)
            values[..., np.setdiff1d(np.arange(len(ids)), graph.kept(ids, removed))] += 3
            variable.assign(np.moveaxis(values, -1, axis))
    assert_same(zeroed(given_inputs, training=False), wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.8]), st.sampled_from([1, 4, 8]))
@settings(max_examples=4, deadline=None)
def test_pruning_meets_its_ratio_or_says_why_not(seed, ratio, round_to):
    from compress.groups.macs import model_macs
    from compress.prune.channels import prune_channels
    from edgeai.errors import PassError

    model = random_network(np.random.default_rng(seed))
    try:
        smaller, report = prune_channels(model, macs_ratio=ratio, round_to=round_to)
    except PassError as error:
        assert "at best" in str(error)
        return
    assert model_macs(smaller) == report["macs_after"] <= ratio * model_macs(model)
    assert smaller(np.zeros((1, SIZE, SIZE, 3), np.float32))["map"].shape == (1, SIZE, SIZE, 3)
