"""Quantisation and pixel writing, against their formulas."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines.edges import FeatureWriter, dequantise, quantise
from edgeai.engines.pixels import PixelWriter, pixel_table
from edgeai.types import TensorSpec

scales = st.floats(1 / 8192, 10, width=32)
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@st.composite
def integer_specs(draw, shape=(1,)):
    dtype = draw(st.sampled_from(sorted(LIMITS)))
    zero_point = 0 if dtype == "int16" else draw(st.integers(*LIMITS[dtype]))
    return TensorSpec("x", shape, dtype, draw(scales), zero_point)


@given(integer_specs(), hnp.arrays(np.float32, (20,), elements=st.floats(-1e4, 1e4, width=32)))
def test_quantising_is_within_half_a_step(spec, values):
    stored = quantise(values, spec)
    assert stored.dtype == np.dtype(spec.dtype)
    back = dequantise(stored, spec)
    assert back.dtype == np.float32
    low, high = ((limit - spec.zero_point) * spec.scale for limit in LIMITS[spec.dtype])
    slack = 1e-6 * max(abs(low), abs(high))  # float32 of the product
    assert (np.abs(back - np.clip(values, low, high)) <= spec.scale / 2 + slack).all()


@given(integer_specs())
def test_every_stored_value_survives(spec):
    low, high = LIMITS[spec.dtype]
    stored = np.arange(low, high + 1).astype(spec.dtype)
    assert np.array_equal(quantise(dequantise(stored, spec), spec), stored)


@given(integer_specs(), st.integers(-100, 100))
def test_halves_go_to_even(spec, steps):
    spec = TensorSpec(spec.name, spec.shape, spec.dtype, 0.5, 0)
    stored = quantise(np.float32([(steps + 0.5) * 0.5]), spec)[0]
    wanted = round(steps + 0.5)  # Python's own rounding is half to even
    assert stored == min(max(wanted, LIMITS[spec.dtype][0]), LIMITS[spec.dtype][1])


means = st.tuples(*[st.floats(-300, 300, width=32)] * 3)
stds = st.tuples(*[st.floats(1 / 64, 512, width=32)] * 3)
same_means = st.one_of(st.just(0.0), st.floats(0, 255, width=32)).map(lambda m: (m,) * 3)
same_stds = st.sampled_from([1.0, 255.0, 127.5, 128.0, 57.375]).map(lambda s: (s,) * 3)


@st.composite
def picture_cases(draw):
    layout = draw(st.sampled_from(["NHWC", "NCHW"]))
    height, width = draw(st.integers(8, 20)), draw(st.integers(8, 20))
    contract = ImageInput(
        width=width,
        height=height,
        layout=layout,
        mean=draw(means | same_means),
        std=draw(stds | same_stds),
    )
    shape = (1, height, width, 3) if layout == "NHWC" else (1, 3, height, width)
    floats = st.sampled_from(["float32", "float16"]).map(lambda dtype: TensorSpec("t", shape, dtype))
    raw = st.sampled_from(["uint8", "int8"]).map(lambda dtype: TensorSpec("t", shape, dtype))
    usual = st.sampled_from(
        [
            TensorSpec("t", shape, "int8", float(np.float32(1 / 255)), -128),
            TensorSpec("t", shape, "int8", 1.0, -128),
            TensorSpec("t", shape, "uint8", 1.0, 0),
            TensorSpec("t", shape, "uint8", 1 / 128, 128),
        ]
    )
    spec = draw(floats | raw | usual | integer_specs(shape))
    picture = draw(hnp.arrays(np.uint8, (height, width, 3)))
    if draw(st.booleans()):
        picture = np.ascontiguousarray(picture[..., ::-1])[..., ::-1]  # not contiguous, strides below 0
    return spec, contract, picture


@given(picture_cases())
def test_every_path_writes_the_formula(case):
    spec, contract, picture = case
    target = np.full(spec.shape, 7, spec.dtype)
    kept = picture.copy()
    PixelWriter(spec, contract).fill(picture)(target)
    assert np.array_equal(picture, kept)
    written = target[0] if contract.layout == "NHWC" else target[0].transpose(1, 2, 0)
    real = (picture.astype(np.float32) - np.float32(contract.mean)) / np.float32(contract.std)
    if spec.dtype.startswith("float"):
        wanted = real.astype(spec.dtype)
    else:
        scale = 1.0 if spec.scale is None else spec.scale
        stored = np.rint(real.astype(np.float64) / scale) + spec.zero_point
        wanted = np.clip(stored, np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max).astype(spec.dtype)
    assert np.array_equal(written, wanted)


@given(picture_cases())
def test_pixels_and_quantise_agree(case):
    """A picture through the table is what its float version would be through `quantise`."""
    spec, contract, _ = case
    if spec.scale is None:
        return
    real = (np.arange(256, dtype=np.float32)[:, None] - np.float32(contract.mean)) / np.float32(contract.std)
    assert np.array_equal(pixel_table(spec, contract), quantise(real, spec))


features = hnp.arrays(
    np.float32,
    (6, 5),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-50, 50, width=32),
)


@given(integer_specs((1, 6, 5, 1)), features)
def test_features_are_written_as_quantise_says_each_time(spec, values):
    contract = LogMelInput(frames=6, mels=5)
    target = np.full(spec.shape, 7, spec.dtype)
    kept = values.copy()
    fill = FeatureWriter(spec, contract).fill(values)
    for _ in range(2):
        fill(target)
        assert np.array_equal(target, quantise(values, spec).reshape(spec.shape))
    assert np.array_equal(values, kept)
