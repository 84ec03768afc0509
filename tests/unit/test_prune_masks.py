"""Masks hold: through every step, a stop and a start, the averages, and into the int8 file."""

from __future__ import annotations

import numpy as np
import pytest
from train_small import loss, make, network, stops_at

from compress.train.fit import FitSettings, fit
from compress.train.masks import MaskSchedule, hold_masks
from edgeai.errors import DataError, PassError

pytestmark = pytest.mark.compress

STEPS = 12
SETTINGS = FitSettings(steps=STEPS, learning_rate=0.02, average=0.8, save_every_s=0)


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def trained(masks, *, make=make, settings=SETTINGS, seed=0, **options):
    net = network(seed)
    result = fit(net, make, loss, settings, description="small", masks=masks, **options)
    return net, result


def zeros(net):
    kernels = {v.path: np.asarray(v.numpy()) for v in net.trainable_variables if v.name == "kernel"}
    return {path: float((kernel == 0).mean()) for path, kernel in kernels.items()}


def cubic(**options):
    from compress.prune.magnitude import MagnitudeSettings, magnitude_schedule

    settings = MagnitudeSettings(sparsity=0.6, renewals=4, scope="per-layer", skip_first=False, **options)
    return magnitude_schedule(network(), settings, steps=STEPS)


def test_a_schedule_reaches_its_sparsity_and_holds_it():
    seen = []
    schedule = cubic()
    told = MaskSchedule(
        lambda step, weights: seen.append(step) or schedule.make(step, weights), schedule.renew_at
    )
    net, result = trained(told)
    assert seen[0] == 0
    assert seen[-1] == int(0.7 * STEPS) == told.last
    got = zeros(net)
    assert got["first/kernel"] == pytest.approx(0.6, abs=0.01)
    assert got["second/kernel"] == pytest.approx(0.6, abs=0.01)
    assert got["head/kernel"] == 0
    assert sum(result.losses[-4:]) < sum(result.losses[:4])


def test_a_stopped_training_goes_on_with_its_masks(tmp_path):
    whole = trained(cubic())

    path = tmp_path / "fit.ckpt"
    with pytest.raises(DataError):
        trained(cubic(), make=stops_at(7, DataError("a broken picture")), checkpoint=path)
    again = trained(cubic(), seed=3, checkpoint=path)
    assert again[1].resumed_from == 7
    for mine, wanted in zip(again[0].get_weights(), whole[0].get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(mine == 0, wanted == 0)


def test_the_best_weights_are_sought_among_the_sparse_ones():
    """Validation says that the dense beginning was best: it is not what was asked for."""
    values = iter([float(n) for n in range(100)])
    settings = SETTINGS.model_copy(update={"patience": 3, "check_every": 1})
    net, result = trained(cubic(), settings=settings, validate=lambda: next(values))
    assert zeros(net)["second/kernel"] == pytest.approx(0.6, abs=0.01)
    assert result.best_step == int(0.7 * STEPS) + 1


def test_two_four_holds_through_training_into_int8():
    from compress.prune.sparsity import describe_sparsity
    from compress.prune.two_four import is_two_four, two_four_masks
    from compress.quantize.tflite import convert_tflite

    net = network()
    masks, left = two_four_masks(net)
    assert left == {"first": "2 input channels are no multiple of 4"}
    fit(net, make, loss, SETTINGS, description="small", masks=hold_masks(masks))
    for name in ("second", "head"):
        assert is_two_four(net.get_layer(name).kernel.numpy())
    samples = [make(np.random.default_rng(n), 1)["inputs"] for n in range(4)]
    told = describe_sparsity(net, convert_tflite(net, "int8", samples))
    in_layers = sum(mask.size for mask in masks.values())
    whole = in_layers + net.get_layer("first").kernel.numpy().size
    assert told.in_file is not None
    assert told.in_file >= 0.5 * in_layers / whole
    assert told.zeros == pytest.approx(0.5 * in_layers / whole)
    assert told.gzip_bytes < told.bytes
    assert told.brings == "smaller file once compressed, not faster, on this target"


def test_masks_that_do_not_fit_are_refused():
    for path, shape, message in (
        ("third/kernel", (3, 3), r"'third/kernel', which is not among the trained weights; there are"),
        ("first/kernel", (3, 3), r"the mask of 'first/kernel' is \(3, 3\), the weight \(3, 3, 2, 8\)"),
    ):
        with pytest.raises(PassError, match=message):
            trained(hold_masks({path: np.ones(shape, np.bool_)}))
    with pytest.raises(PassError, match=r"renewed at step 12, but the training has 12 steps"):
        trained(MaskSchedule(lambda step, weights: {}, frozenset({12})))
    frozen = SETTINGS.model_copy(update={"freeze": ("first",)})
    with pytest.raises(PassError, match="'first/kernel', which is not among"):
        trained(hold_masks({"first/kernel": np.ones((3, 3, 2, 8), np.bool_)}), settings=frozen)
