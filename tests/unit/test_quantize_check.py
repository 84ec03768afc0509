"""Whether a file is of the precision that was asked for, layer by layer; and what a precision costs in speed."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError

pytestmark = pytest.mark.compress


def samples(count):
    rng = np.random.default_rng(0)
    return [rng.random((1, 16, 16, 3)).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def network(keras):
    layers = keras.layers
    keras.utils.set_random_seed(6)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(16, 3, activation="relu", name="first")(image)
    x = layers.DepthwiseConv2D(3, activation="relu", name="second")(x)
    x = layers.Conv2D(80, 1, name="third")(x)
    return keras.Model(image, layers.Dense(4, name="scores")(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def files(network):
    from compress.quantize.post_training import quantize_network
    from compress.quantize.settings import PostTraining
    from compress.quantize.tflite import convert_tflite

    made = {"float32": convert_tflite(network, "float32")}
    for precision in ("float16", "dynamic", "int8", "int4", "int16x8"):
        settings = PostTraining(precision=precision, rounding_steps=5)
        made[precision], _ = quantize_network(network, settings, samples(4))
    return made


PRECISIONS = ("float32", "float16", "dynamic", "int8", "int4", "int16x8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_is_what_it_was_asked_to_be(files, precision):
    from compress.quantize.check import not_done

    assert not_done(files[precision], precision) == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_of_another_precision_is_seen(files, precision):
    from compress.quantize.check import not_done

    for other in set(PRECISIONS) - {precision}:
        # float16 and dynamic say nothing of activations, and small weights stay float in a dynamic file
        if not {precision, other} <= {"dynamic", "int8", "int16x8"}:
            assert not_done(files[precision], other), other


def test_a_layer_left_in_float_is_named(files):
    from compress.quantize.calibrate import calibrate
    from compress.quantize.check import not_done
    from compress.quantize.graph import TFLiteGraph
    from compress.quantize.integer import quantize_ranges

    floats = files["float32"]
    graph = TFLiteGraph(floats)
    name = next(graph.name(s.outputs[0]) for s in graph.steps if s.kind == "DEPTHWISE_CONV_2D")
    mixed = quantize_ranges(floats, calibrate(floats, samples(4)), keep_float=[name])
    found = not_done(mixed, "int8")
    assert {(one.kind, one.part, one.found) for one in found} == {
        ("DEPTHWISE_CONV_2D", "weights", "float32"),
        ("DEPTHWISE_CONV_2D", "activation", "float32"),
    }
    assert all(one.name.startswith(name) for one in found)
    assert not_done(mixed, "int8", keep_float=[name]) == []


def test_errors_are_told_layer_by_layer(files):
    from compress.quantize.check import NO_ERROR_DB, layer_errors

    given = samples(3)
    for one in layer_errors(files["float32"], files["float32"], given):
        assert one.sqnr_db == NO_ERROR_DB and one.cosine == pytest.approx(1)
    eight, four = (layer_errors(files["float32"], files[kind], given) for kind in ("int8", "int4"))
    assert [one.kind for one in eight] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "MEAN",
        "FULLY_CONNECTED",
    ]
    assert all(25 < one.sqnr_db < 60 and one.cosine > 0.99 for one in eight)
    assert all(worse.sqnr_db < better.sqnr_db for worse, better in zip(four, eight, strict=True))


def test_where_a_precision_is_slower_is_said():
    from compress.quantize.slower import slower_note

    def told(precision, machine, *flags):
        return slower_note(precision, machine=machine, cpu_flags=flags)

    assert "no int8 dot products" in told("int8", "x86_64", "avx2", "fma")
    assert told("int8", "x86_64", "avx512_vnni") == ""
    assert told("int8", "aarch64", "asimd") == ""
    assert "slower than float32 on x86" in told("dynamic", "AMD64", "avx512_vnni")
    for machine in ("x86_64", "aarch64"):
        assert told("int4", machine) and told("int16x8", machine)
        assert told("float16", machine) == told("float32", machine) == ""


def test_a_pass_refuses_a_file_that_is_not_what_was_asked(monkeypatch, network):
    from compress.candidate import Candidate
    from compress.passes import quantize as module
    from compress.passes.settings import QuantizePass
    from compress.quantize.check import NotDone

    class Bench:
        class task:
            @staticmethod
            def representative_inputs(count):
                return samples(count)

        class recipe:
            name, seed = "tiny", 1

    left = [NotDone("second/Relu", "DEPTHWISE_CONV_2D", "weights", "float32")]
    monkeypatch.setattr(module, "not_done", lambda content, precision, keep_float: left)
    with pytest.raises(PassError, match=r"1 layers are something else: second/Relu \(weights float32\)"):
        module.quantize(QuantizePass(kind="quantize", calibration=2), Candidate(network), Bench())
