"""Schedules as the formula says, masks of the smallest weights, 2:4 along the inputs, and what zeros bring."""

from __future__ import annotations

import numpy as np
import pytest
from prune_networks import small
from pydantic import ValidationError

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def test_the_schedule_is_the_papers():
    from compress.prune.magnitude import sparsity_at

    for step in range(0, 130, 7):
        done = min(max((step - 20) / (10 * 10), 0), 1)  # t_0 = 20, n = 10 steps of dt = 10
        wanted = 0.9 + (0.1 - 0.9) * (1 - done) ** 3
        assert sparsity_at(step, begin=20, end=120, final=0.9, initial=0.1) == pytest.approx(wanted)


def weights():
    rng = np.random.default_rng(0)
    return {
        "wide": rng.normal(0, 1, (3, 3, 16, 32)).astype(np.float32),
        "narrow": rng.normal(0, 0.01, (32, 10)).astype(np.float32),
    }


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("scope", ["global", "per-layer", "lamp"])
def test_masks_leave_out_the_smallest(scope, sparsity):
    from compress.prune.magnitude import magnitude_masks

    given = weights()
    masks = magnitude_masks(given, sparsity, scope=scope)
    gone = sum(int((~mask).sum()) for mask in masks.values())
    total = sum(mask.size for mask in masks.values())
    assert gone == pytest.approx(
        sparsity * total, abs=5
    )  # a global threshold stops short of a layer's last per cent
    for path, mask in masks.items():
        assert mask.any()
        if not mask.all():
            assert np.abs(given[path])[~mask].max() <= np.abs(given[path])[mask].min()
    if scope == "per-layer":
        assert (~masks["narrow"]).mean() == pytest.approx(sparsity, abs=0.01)
    if scope == "lamp":
        assert (~masks["narrow"]).mean() < 0.95, "the scale of a layer does not matter"
    if scope == "global" and sparsity == 0.9:
        assert masks["narrow"].sum() == 4


def test_masks_only_grow():
    from compress.prune.magnitude import magnitude_masks

    given = weights()
    last = None
    for sparsity in (0.2, 0.5, 0.8):
        masks = magnitude_masks(given, sparsity)
        if last is not None:
            assert all(not (masks[path] & ~last[path]).any() for path in masks)
        given = {path: value * masks[path] for path, value in given.items()}
        last = masks
    again = magnitude_masks(given, 0.8)
    assert all((given[path] * again[path] == given[path]).all() for path in given)


def test_edges_and_exceptions_stay_dense(keras):
    from compress.prune.magnitude import MagnitudeSettings, prunable_paths

    model = small(keras)
    assert prunable_paths(model, MagnitudeSettings(sparsity=0.5)) == ["b/kernel", "c/kernel"]
    whole = MagnitudeSettings(sparsity=0.5, skip_first=False, skip_last=False, exclude=("c",))
    assert prunable_paths(model, whole) == ["a/kernel", "b/kernel", "head/kernel"]
    with pytest.raises(PassError, match=r"no layer 'x' has weights; there are a, "):
        prunable_paths(model, MagnitudeSettings(sparsity=0.5, exclude=("x",)))
    with pytest.raises(PassError, match="no layer is left"):
        prunable_paths(model, MagnitudeSettings(sparsity=0.5, exclude=("b", "c")))


def test_two_heads_behind_a_nested_model(keras):
    from compress.prune.magnitude import MagnitudeSettings, prunable_paths

    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, name="inner_conv")(x)
    inner = keras.Model(image, keras.layers.Conv2D(8, 1, name="inner_last")(x), name="inner")
    picture = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(3, 1, name="first")(picture)
    x = inner(x)
    model = keras.Model(picture, [keras.layers.Conv2D(n, 1, name=f"head{n}")(x) for n in (1, 2)])
    paths = prunable_paths(model, MagnitudeSettings(sparsity=0.5))
    assert sorted(path.split("/")[-2] for path in paths) == ["inner_conv", "inner_last"]


@pytest.mark.parametrize("wrong", [{"begin": 0.8}, {"initial": 0.6}, {"sparsity": 1.0}, {"sparsity": "nan"}])
def test_settings_that_cannot_be(wrong):
    from compress.prune.magnitude import MagnitudeSettings

    with pytest.raises(ValidationError):
        MagnitudeSettings(**{"sparsity": 0.5, **wrong})


def test_two_of_each_four_inputs(keras):
    from compress.prune.two_four import is_two_four, two_four_mask, two_four_masks

    kernel = np.zeros((1, 1, 8, 2), np.float32)
    kernel[0, 0, :, 0] = [1, -4, 3, 2, 0.1, 0.2, 0.4, -0.3]
    kernel[0, 0, :, 1] = 1  # ties: the first two
    mask = two_four_mask(kernel)
    assert mask[0, 0, :, 0].tolist() == [False, True, True, False, False, False, True, True]
    assert mask[0, 0, :, 1].tolist() == [True, True, False, False] * 2
    assert is_two_four(kernel * mask)
    assert not is_two_four(kernel)
    assert not is_two_four(np.zeros((3, 4)))

    masks, left = two_four_masks(small(keras), exclude=("head",))
    assert sorted(masks) == ["b/kernel", "c/kernel"]
    assert left == {"a": "3 input channels are no multiple of 4", "head": "excluded"}
    assert all(mask.mean() == 0.5 for mask in masks.values())
    with pytest.raises(PassError, match="no layer 'x'"):
        two_four_masks(small(keras), exclude=("x",))
    x = image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2DTranspose(4, 2, name="up")(x))
    with pytest.raises(PassError, match=r"2:4: no layer fits: up \(Conv2DTranspose has no sparse kernel\)"):
        two_four_masks(model)


def test_what_zeros_bring_is_told_as_it_is(keras):
    from compress.prune.magnitude import magnitude_masks
    from compress.prune.sparsity import describe_sparsity, zeros_in_tflite
    from compress.prune.two_four import two_four_masks

    def with_masks(masks):
        model = small(keras)
        for variable in model.variables:
            if variable.path in masks:
                variable.assign(variable.numpy() * masks[variable.path])
        return model

    plain = small(keras)
    assert describe_sparsity(plain, b"x" * 100, target="onnx").pattern == "dense"
    masks = two_four_masks(plain)[0]
    told = describe_sparsity(with_masks(masks), b"x" * 100, target="tensorrt")
    assert (told.pattern, told.bytes) == ("2:4", 100)
    assert told.brings.startswith("faster where TensorRT picks sparse tensor cores")
    assert told.layers["b"] == 0.5
    assert "not faster, on this target" in describe_sparsity(with_masks(masks), b"", target="onnx").brings
    free = magnitude_masks({v.path: v.numpy() for v in plain.variables if v.name == "kernel"}, 0.5)
    told = describe_sparsity(with_masks(free), b"", target="tensorrt")
    assert told.pattern == "unstructured"
    assert "not faster, on this target" in told.to_json()["brings"]
    with pytest.raises(PassError, match="no TFLite file"):
        zeros_in_tflite(b"nothing of the kind")
