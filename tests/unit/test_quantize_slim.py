"""A TFLite file without its repetitions: fewer bytes, the same numbers, and what is looked up by name is still there."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytestmark = pytest.mark.compress


@pytest.fixture(scope="module")
def plain(keras):
    """An int8 file as TensorFlow's converter writes it, of a network with depthwise and plain convolutions."""
    from compress.networks.classifier import cnn_classifier
    from compress.quantize import integer, tflite

    keras.utils.set_random_seed(0)
    network = cnn_classifier(height=32, width=32, classes=4, multiplier=0.5)
    rng = np.random.default_rng(0)
    samples = [rng.random((1, 32, 32, 3)).astype(np.float32) for _ in range(4)]
    with pytest.MonkeyPatch.context() as patch:
        for module in (integer, tflite):
            patch.setattr(module, "slim_tflite", lambda content: content)
        return tflite.convert_tflite(network, "int8", samples)


def run_model(content, count=3):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1)
    runner.allocate_tensors()
    rng = np.random.default_rng(1)
    outputs = []
    for _ in range(count):
        for spec in runner.get_input_details():
            runner.set_tensor(spec["index"], rng.integers(-128, 128, spec["shape"]).astype(np.int8))
        runner.invoke()
        outputs += [runner.get_tensor(spec["index"]) for spec in runner.get_output_details()]
    return outputs, runner


def test_every_output_is_the_same_to_the_bit_in_a_smaller_file(plain):
    from compress.quantize.slim import slim_tflite

    slim = slim_tflite(plain)
    assert len(slim) < 0.9 * len(plain)
    for before, after in zip(run_model(plain)[0], run_model(slim)[0], strict=True):
        np.testing.assert_array_equal(before, after)


def test_inputs_outputs_and_signatures_keep_their_names(plain):
    from compress.quantize.slim import slim_tflite

    (_, before), (_, after) = run_model(plain, 1), run_model(slim_tflite(plain), 1)
    assert after.get_signature_list() == before.get_signature_list()
    for ends in ("get_input_details", "get_output_details"):
        assert [d["name"] for d in getattr(after, ends)()] == [d["name"] for d in getattr(before, ends)()]


def test_scales_zero_points_and_weights_stay_tensor_by_tensor(plain):
    from compress.quantize.slim import slim_tflite, unpack_model

    before, after = unpack_model(plain), unpack_model(slim_tflite(plain))
    for was, now in zip(before.subgraphs[0].tensors, after.subgraphs[0].tensors, strict=True):
        np.testing.assert_array_equal(was.shape, now.shape)
        np.testing.assert_array_equal(was.quantization.scale, now.quantization.scale)
        np.testing.assert_array_equal(was.quantization.zeroPoint, now.quantization.zeroPoint)
        np.testing.assert_array_equal(before.buffers[was.buffer].data, after.buffers[now.buffer].data)
        assert now.name and was.name.startswith(re.sub(rb"_\d+$", b"", now.name))


def test_weights_lie_where_kernels_read_them(plain):
    """The schema asks for 16 bytes; ARM kernels that load vectors rely on it."""
    from ai_edge_litert import schema_py_generated as schema

    from compress.quantize.slim import ALIGNMENT, slim_tflite

    content = slim_tflite(plain)
    model = schema.Model.GetRootAs(content, 0)
    whole = np.frombuffer(content, np.uint8)
    starts = []
    for number in range(model.BuffersLength()):
        data = model.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            starts.append(data.__array_interface__["data"][0] - whole.__array_interface__["data"][0])
    assert len(starts) > 5
    assert all(start % ALIGNMENT == 0 for start in starts)


def test_slim_again_changes_nothing(plain):
    from compress.quantize.slim import slim_tflite

    once = slim_tflite(plain)
    assert slim_tflite(once) == once


def test_what_is_too_large_stays_as_it_is(plain, monkeypatch):
    from compress.quantize import slim

    monkeypatch.setattr(slim, "MAX_BYTES", 100)
    assert slim.slim_tflite(plain) is plain


def test_no_two_tensors_share_a_name(plain):
    from compress.quantize.slim import slim_tflite, unpack_model

    names = [tensor.name for tensor in unpack_model(slim_tflite(plain)).subgraphs[0].tensors]
    assert len(set(names)) == len(names)
