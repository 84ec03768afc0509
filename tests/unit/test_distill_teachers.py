"""Teachers from every kind of file say the same, and what does not fit is told in one line before work starts."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.errors import DataError, DataMissingError, EdgeError, EngineError, RecipeError

pytestmark = pytest.mark.compress

SPEC = ImageInput(width=16, height=8, mean=(10.0, 20.0, 30.0), std=(64.0, 64.0, 32.0))
OUTPUTS = {"class": (4,)}


@pytest.fixture(scope="module")
def network(keras):
    return classifier(keras)


def classifier(keras, *, name="class", classes=4, softmax=False, height=8, width=16):
    keras.utils.set_random_seed(5)
    x = picture = keras.Input((height, width, 3), name="image")
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, name=name, activation="softmax" if softmax else None)(x)
    return keras.Model(picture, {name: x})


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    from compress.export.onnx import export_onnx
    from compress.quantize.tflite import convert_tflite

    folder = tmp_path_factory.mktemp("teachers")
    network.save(folder / "net.keras")
    (folder / "net.tflite").write_bytes(convert_tflite(network, "float32"))
    export_onnx(network, folder / "net.onnx")
    return folder


@pytest.fixture
def pictures():
    return np.random.default_rng(1).normal(0, 2, (5, 8, 16, 3)).astype(np.float32)


def open_teacher(source, **options):
    from compress.distill.open_teacher import open_teacher_network

    return open_teacher_network(source, **{"spec": SPEC, "outputs": OUTPUTS, **options})


@pytest.mark.parametrize("name", ["net.keras", "net.tflite", "net.onnx"])
def test_every_kind_of_file_says_what_the_network_says(network, files, pictures, name):
    wanted = network.predict(pictures, verbose=0)["class"]
    with open_teacher(name, data_root=files) as teacher:
        assert teacher.name == name
        assert teacher.in_graph == (name == "net.keras")
        assert len(teacher.fingerprint) == 64
        for count in (5, 1, 5):
            said = teacher(pictures[:count])
            assert list(said) == ["class"]
            assert said["class"].dtype == np.float32
            np.testing.assert_allclose(said["class"], wanted[:count], atol=1e-4)


def test_a_keras_object_is_part_of_a_graph_and_stays_as_it_is(network, pictures):
    import tensorflow as tf

    before = network.get_weights()
    teacher = open_teacher(network)
    graph = tf.function(teacher.said, autograph=False)
    np.testing.assert_allclose(graph(tf.constant(pictures))["class"], teacher(pictures)["class"], atol=1e-5)
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_many_threads_get_each_its_own_answer(files, pictures):
    with open_teacher(files / "net.tflite") as teacher:
        wanted = teacher(pictures)["class"]
        wrong = []

        def ask(row):
            said = [teacher(pictures[row : row + 1])["class"] for _ in range(20)]
            wrong.extend(row for each in said if not np.array_equal(each, wanted[row : row + 1]))

        threads = [threading.Thread(target=ask, args=(row,)) for row in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
    with pytest.raises(EngineError, match="closed"):
        teacher(pictures[:3])


def test_probabilities_become_logits_under_any_name(keras, network, pictures):
    plain = network.predict(pictures, verbose=0)["class"]
    soft = classifier(keras, name="probs", softmax=True)
    soft.set_weights(network.get_weights())
    said = open_teacher(soft)(pictures)["class"]
    shift = said - plain
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-4)


def test_a_teacher_of_another_size_sees_the_picture_scaled(keras, pictures):
    import cv2

    large = classifier(keras, height=16, width=32)
    scaled = np.stack([cv2.resize(each, (32, 16), interpolation=cv2.INTER_LINEAR) for each in pictures])
    wanted = large.predict(scaled, verbose=0)["class"]
    np.testing.assert_allclose(open_teacher(large)(pictures)["class"], wanted, atol=1e-3)


def bundle_of(path, spec, folder):
    from edgeai.bundle import write_bundle
    from edgeai.bundle.golden import make_golden
    from edgeai.engines import EdgeEngine, open_model_file

    with EdgeEngine(open_model_file(path), spec) as engine:
        golden = make_golden(engine, np.zeros((spec.height, spec.width, 3), np.uint8))
    fields = {
        "name": "teacher",
        "task": "classify",
        "input": spec.model_dump(mode="json"),
        "decoder": {"name": "class"},
        "labels": ["a", "b", "c", "d"],
        "licence": "Apache-2.0",
        "golden": "golden.npz",
        "files": [{"path": "model.tflite", "format": "tflite", "precision": "float32"}],
    }
    files = {"model.tflite": path, "golden.npz": golden, "labels.txt": b"a\nb\nc\nd\n"}
    return write_bundle(folder / "teacher", fields, files).folder


def test_a_bundles_own_normalisation_colours_and_labels_count(network, files, tmp_path, pictures):
    theirs = SPEC.model_copy(update={"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0), "colour": "RGB"})
    folder = bundle_of(files / "net.tflite", theirs, tmp_path)
    pixels = pictures * np.float32(SPEC.std) + np.float32(SPEC.mean)
    wanted = network.predict(pixels[..., ::-1] / np.float32(255), verbose=0)["class"]
    with open_teacher(folder, labels=("a", "b", "c", "d")) as teacher:
        np.testing.assert_allclose(teacher(pictures)["class"], wanted, atol=1e-4)
    with open_teacher(folder, labels=("d", "b"), outputs={"class": (2,)}) as teacher:
        np.testing.assert_allclose(teacher(pictures)["class"], wanted[:, [3, 1]], atol=1e-4)
    with pytest.raises(RecipeError, match="does not know 'e'"):
        open_teacher(folder, labels=("a", "e"), outputs={"class": (2,)})
    with pytest.raises(RecipeError, match="pad = 114, the student's input has 0"):
        open_teacher(folder, spec=SPEC.model_copy(update={"pad": 0}))
    with pytest.raises(RecipeError, match="the aspect must be the same"):
        open_teacher(folder, spec=SPEC.model_copy(update={"width": 32}))


def test_a_keyword_bundle_is_taken_at_its_best_precision(tmp_path):
    from tiny_bundle import KEYWORD_INPUT, write_keyword_bundle

    bundle = write_keyword_bundle(tmp_path / "kws")
    spec, outputs = LogMelInput(**KEYWORD_INPUT), {"keyword": (3,)}
    with open_teacher(bundle.folder, spec=spec, outputs=outputs, labels=bundle.manifest.labels) as teacher:
        assert "float32" in teacher.name
        assert teacher(np.zeros((2, 10, 8, 1), np.float32))["keyword"].shape == (2, 3)
    with pytest.raises(RecipeError, match="hears other features than the student: offset"):
        open_teacher(bundle.folder, spec=spec.model_copy(update={"offset": 1.0}), outputs=outputs)


def test_channels_first_onnx_gets_them_first(network, files, tmp_path, pictures):
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("Identity", ["x"], ["map"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 16])],
        [
            helper.make_tensor_value_info("m", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["n", 3, 8, 16]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "planes.onnx"))
    with open_teacher(tmp_path / "planes.onnx", outputs={"class": (3,), "grid": (8, 16, 3)}) as teacher:
        said = teacher(pictures)
    np.testing.assert_allclose(said["class"], pictures.mean((1, 2)), atol=1e-5)
    np.testing.assert_array_equal(said["grid"], pictures)


@pytest.mark.parametrize("shape", [["n", 1, 10, 8], ["n", 10, 8], [1, 10, 8, 1], ["n", 10, 8, 1]])
def test_features_may_have_their_channel_anywhere_or_nowhere(shape, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    axes = list(range(1, len(shape)))
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=axes[:-1], keepdims=0),
            helper.make_node("ReduceMean", ["m"], ["y"], axes=[1], keepdims=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "mean.onnx"))
    spec, x = LogMelInput(frames=10, mels=8), np.random.default_rng(0).normal(0, 1, (4, 10, 8, 1))
    with open_teacher(tmp_path / "mean.onnx", spec=spec, outputs={"keyword": (1,)}) as teacher:
        said = teacher(x.astype(np.float32))["keyword"]
    np.testing.assert_allclose(said[:, 0], x.mean((1, 2, 3)), atol=1e-5)


def test_a_detectors_objectness_comes_along(keras):
    picture = keras.Input((8, 16, 3))
    maps = {
        f"{kind}_8": keras.layers.Conv2D(n, 8, strides=8, name=f"{kind}_8")(picture)
        for kind, n in (("box", 4), ("object", 1), ("class", 2))
    }
    teacher = open_teacher(keras.Model(picture, maps), outputs={"box_8": (1, 2, 4), "class_8": (1, 2, 2)})
    assert set(teacher(np.zeros((1, 8, 16, 3), np.float32))) == {"box_8", "object_8", "class_8"}


def test_other_classes_another_picture_or_a_missing_file_are_told_in_one_line(keras, network, tmp_path):
    cases = [
        (
            network,
            {"outputs": {"class": (7,)}},
            RecipeError,
            r"gives class \(4,\); the student's class is \(7,\)",
        ),
        (network, {"outputs": {"class": (4,), "box": (2,)}}, RecipeError, r"the student's .* is"),
        (network, {"spec": LogMelInput()}, RecipeError, r"takes \(8, 16, 3\), the student \(49, 40, 1\)"),
        (tmp_path / "none.onnx", {}, DataMissingError, "no teacher at"),
        (tmp_path / "nowhere", {}, EdgeError, "no bundle"),
        (keras.Sequential([keras.layers.Dense(1)]), {}, RecipeError, "a functional Keras model"),
        ("a\0b.onnx", {}, RecipeError, "is no path"),
        (42, {}, RecipeError, "a functional Keras model"),
    ]
    for source, options, kind, told in cases:
        with pytest.raises(kind, match=told) as caught:
            open_teacher(source, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["net.keras", "net.tflite", "net.onnx"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_file_that_was_cut_off_is_told_in_one_line(files, tmp_path, name, keep):
    whole = (files / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises((DataError, EngineError, RecipeError)) as caught:
        open_teacher(cut)
    assert "\n" not in str(caught.value)


def test_a_teacher_that_says_nan_or_draws_at_random_is_refused(keras):
    broken = classifier(keras)
    broken.set_weights([np.full_like(w, np.nan) for w in broken.get_weights()])
    with pytest.raises(RecipeError, match="'class' is no finite number"):
        open_teacher(broken)

    @keras.saving.register_keras_serializable("distill_test")
    class Noisy(keras.layers.Layer):
        def call(self, x):
            return x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)

        def build(self, shape):
            self.seeds = keras.random.SeedGenerator(1)

    picture = keras.Input((8, 16, 3))
    x = keras.layers.Dense(4, name="class")(keras.layers.GlobalAveragePooling2D()(picture))
    with pytest.raises(RecipeError, match="differs when it is asked again"):
        open_teacher(keras.Model(picture, {"class": Noisy()(x)}))


def test_code_in_a_keras_file_is_never_run(keras, tmp_path):
    picture = keras.Input((8, 16, 3))
    x = keras.layers.Lambda(lambda t: t[:, 0, 0, :1])(picture)
    model = keras.Model(picture, {"class": keras.layers.Dense(4)(x)})
    model.save(tmp_path / "code.keras")
    with pytest.raises(DataError, match="no Keras model that can be read") as caught:
        open_teacher(tmp_path / "code.keras")
    assert "\n" not in str(caught.value)
