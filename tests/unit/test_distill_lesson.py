"""What fit gets to learn from a teacher: logits, features, answers of a black box, examples without labels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.errors import PassError, RecipeError

pytestmark = pytest.mark.compress

TEMPLATES = np.random.default_rng(7).normal(0, 1, (4, 8, 8, 2)).astype(np.float32)


def network(keras, width, seed):
    keras.utils.set_random_seed(seed)
    x = picture = keras.Input((8, 8, 2), name="picture")
    x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(picture, {"class": keras.layers.Dense(4, name="class")(x)})


class Patterns:
    """What a lesson asks of a task."""

    def make_batch(self, rng, size):
        classes = rng.integers(0, 4, size)
        noise = rng.normal(0, 1, (size, 8, 8, 2))
        inputs = (TEMPLATES[classes] + noise).astype(np.float32)
        return {"inputs": inputs, "targets": np.eye(4, dtype=np.float32)[classes]}

    def label_loss(self, outputs, targets):
        from compress.train import class_loss

        return class_loss.label_loss(outputs["class"], targets)

    def teacher_loss(self, outputs, teacher):
        raise AssertionError("logits have losses of their own")


@pytest.fixture
def task():
    return Patterns()


def lesson(student, teacher, task, *, make=None, **options):
    from compress.distill.lesson import open_lesson

    made = make or (lambda rng: task.make_batch(rng, 16))
    return open_lesson(student, task, made, teacher=teacher, **{"share": 1.0, **options})


def run(lesson, steps=60, **options):
    from compress.train.fit import FitSettings, fit

    settings = FitSettings(**{"steps": steps, "batch": 16, "learning_rate": 0.01, "average": 0.5, **options})
    return fit(lesson.network, lesson.make, lesson.loss, settings, description="lesson").losses


def keras_teacher(keras):
    from compress.distill.teacher_network import KerasTeacher

    return KerasTeacher(network(keras, 8, 1), name="big")


@pytest.mark.parametrize("kind", ["hinton", "dkd", "dist"])
def test_a_student_learns_what_its_teacher_says(keras, task, kind):
    from compress.distill.losses import DistillLoss

    teacher, student = keras_teacher(keras), network(keras, 4, 2)
    before = teacher.network.get_weights()
    losses = run(lesson(student, teacher, task, settings=DistillLoss(kind=kind)))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    for now, then in zip(teacher.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_features_are_learnt_and_leave_nothing_in_the_student(keras, task, tmp_path):
    from compress.distill.losses import DistillLoss, FeaturePair

    teacher, student = keras_teacher(keras), network(keras, 4, 2)
    settings = DistillLoss(features=(FeaturePair(student="second", teacher="second"),), feature_weight=2.0)
    names, weights = [layer.name for layer in student.layers], student.get_weights()
    opened = lesson(student, teacher, task, settings=settings)
    assert [v.path for v in opened.network.trainable_variables if "projection_0" in v.path]
    batch = opened.make(np.random.default_rng(0))
    first = opened.loss(opened.network(batch["inputs"]), batch)
    run(opened)
    last = opened.loss(opened.network(batch["inputs"]), batch)
    assert float(last["features"]) < 0.6 * float(first["features"])
    assert float(first["loss"]) == pytest.approx(float(first["teacher"] + 2 * first["features"]))
    assert [layer.name for layer in student.layers] == names
    assert list(student.output) == ["class"]
    moved = [np.abs(a - b).max() for a, b in zip(student.get_weights(), weights, strict=True)]
    assert min(moved) > 0
    # a copy and a file of it know nothing of the projection either
    copied = keras.models.clone_model(student)
    assert len(copied.get_weights()) == len(weights)
    student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(loaded(batch["inputs"])["class"], student(batch["inputs"])["class"], atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "relative"])
def test_feature_losses_against_numpy_and_zero_where_equal(keras, kind):
    from compress.distill.features import feature_loss
    from compress.distill.losses import DistillLoss, FeaturePair

    settings = DistillLoss(features=(FeaturePair(student="a", teacher="b"),), feature_kind=kind)
    rng = np.random.default_rng(0)
    ours, theirs = (
        rng.normal(0, 1, (2, 3, 2, 5)).astype(np.float32),
        rng.normal(0, 1, (2, 6, 4, 5)).astype(np.float32),
    )
    small = theirs.reshape(2, 3, 2, 2, 2, 5).mean((2, 4))
    if kind == "relative":
        wanted = np.square(ours - small).mean() / np.square(small).mean()
    else:
        unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (ours, small)]
        wanted = (1 - (unit[0] * unit[1]).sum(-1)).mean()
    told = feature_loss({"feature_0": ours}, {"feature_0": theirs}, settings)
    assert float(told) == pytest.approx(wanted, rel=1e-4)
    same = feature_loss({"feature_0": small}, {"feature_0": theirs}, settings)
    assert float(same) == pytest.approx(0, abs=1e-6)


def test_features_that_do_not_fit_are_told(keras, task):
    from compress.distill.losses import DistillLoss, FeaturePair

    teacher, student = keras_teacher(keras), network(keras, 4, 2)

    def told(ours, theirs):
        settings = DistillLoss(features=(FeaturePair(student=ours, teacher=theirs),))
        with pytest.raises(RecipeError) as caught:
            lesson(student, teacher, task, settings=settings)
        return str(caught.value)

    assert "no layer 'secand' to learn features of" in (said := told("secand", "second"))
    assert "'second'" in said.split(";")[1]
    assert "do not divide into each other" in told("second", "pool")


class Oracle:
    """A black box."""

    name, fingerprint, in_graph = "oracle", "0" * 64, False

    def __call__(self, inputs):
        return {"class": np.einsum("bijc,kijc->bk", inputs, TEMPLATES).astype(np.float32) / 20}


def test_a_black_box_answers_where_batches_are_made(keras, task):
    opened = lesson(network(keras, 4, 2), Oracle(), task, share=0.5)
    assert opened.make(np.random.default_rng(0))["teacher"]["class"].shape == (16, 4)
    losses = run(opened)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_a_black_box_shows_no_features(keras, task):
    from compress.distill.losses import DistillLoss, FeaturePair

    settings = DistillLoss(features=(FeaturePair(student="first", teacher="first"),))
    with pytest.raises(RecipeError, match="features cannot be seen"):
        lesson(network(keras, 4, 2), Oracle(), task, settings=settings)


def test_examples_without_labels_count_for_the_teacher_alone(keras, task):
    from compress.distill.losses import DistillLoss, logit_loss
    from compress.distill.unlabelled import mix_unlabelled
    from compress.train import class_loss

    def inputs(rng, count):
        return rng.normal(0, 1, (count, 8, 8, 2)).astype(np.float32)

    make = mix_unlabelled(lambda rng: task.make_batch(rng, 6), inputs, 10)
    student, teacher = network(keras, 4, 2), keras_teacher(keras)
    settings = DistillLoss(kind="dkd")
    opened = lesson(student, teacher, task, make=make, share=0.25, settings=settings)
    batch = opened.make(np.random.default_rng(0))
    assert batch["inputs"].shape[0] == 16
    assert batch["targets"].shape[0] == 6
    outputs, said = student(batch["inputs"]), teacher(batch["inputs"])
    told = opened.loss(outputs, batch)
    labels = class_loss.label_loss(outputs["class"][:6], batch["targets"])
    classes = np.concatenate([batch["targets"].argmax(-1), said["class"][6:].argmax(-1)])
    all_of_it = logit_loss(outputs["class"], said["class"], settings, classes=classes)
    assert float(told["loss"]) == pytest.approx(0.75 * float(labels) + 0.25 * float(all_of_it), rel=1e-5)
    losses = run(opened)
    assert np.isfinite(losses).all()


def test_grids_and_spelled_texts_have_their_own_losses(keras, task):
    from compress.distill.lesson import teacher_loss
    from compress.distill.losses import DistillLoss, ctc_teacher_loss

    class Grid:
        def can_label(self, outputs):
            return "box_8" in outputs

        def teacher_loss(self, outputs, said):
            return outputs["box_8"] - said["box_8"]

    settings = DistillLoss(sequence=0.5)
    assert teacher_loss(Grid(), settings, {"box_8": 3}, {"box_8": 1}, None) == 2
    s, t = np.random.default_rng(0).normal(0, 1, (2, 2, 6, 4)).astype(np.float32)
    told = teacher_loss(Grid(), settings, {"symbols": s}, {"symbols": t}, None)
    assert float(told) == pytest.approx(float(ctc_teacher_loss(s, t, settings)))
    # of outputs that nothing is known of each channel counts alike, however large its numbers are
    one, other = np.random.default_rng(1).normal(0, 1, (2, 4, 5, 2)).astype(np.float32)
    told = [
        float(teacher_loss(Grid(), settings, {"rows": one * size}, {"rows": other * size}, None))
        for size in (1.0, np.array([1.0, 8.0], np.float32))
    ]
    wanted = np.mean(np.square(one - other) / other.var((0, 1)))
    assert told == pytest.approx([wanted, wanted], rel=1e-4)


def test_unlabelled_pictures_and_clips_are_made_as_the_tasks_make_their_own(tmp_path):
    import cv2

    from compress.data.classified import PictureSet
    from compress.data.detection import DetectionSet
    from compress.distill.unlabelled import unlabelled_inputs
    from compress.tasks.classify import ClassifyTask
    from compress.tasks.detect import DetectTask
    from compress.train.picture_augment import PictureAugment
    from edgeai.bundle.manifest import Decoder, ImageInput

    spec = ImageInput(width=32, height=32)
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), np.full((20, 30, 3), 60 * number + 30, np.uint8))
    none = PictureSet(("a", "b"), (), np.zeros(0, np.int32), ())
    classify = ClassifyTask(none, none, spec, PictureAugment(), 0)
    detect = DetectTask(
        DetectionSet(("a",), ()),
        DetectionSet(("a",), ()),
        spec,
        Decoder(name="grid"),
        (8,),
        PictureAugment(),
        0,
    )
    for task in (classify, detect):
        made = unlabelled_inputs(task, paths)(np.random.default_rng(1), 4)
        assert made.shape == (4, 32, 32, 3)
        assert made.dtype == np.float32
        again = unlabelled_inputs(task, paths)(np.random.default_rng(1), 4)
        np.testing.assert_array_equal(made, again)
    with pytest.raises(PassError, match="no unlabelled examples"):
        unlabelled_inputs(classify, [])


def test_unlabelled_clips_are_heard_by_a_keyword_student(tmp_path):
    import soundfile

    from compress.data.speech import SpeechSet
    from compress.distill.unlabelled import unlabelled_inputs
    from compress.tasks.keyword import KeywordTask
    from compress.train.sound_augment import SoundAugment
    from edgeai.bundle.manifest import LogMelInput

    spec, rng = LogMelInput(frames=10, mels=8), np.random.default_rng(0)
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, 4000).astype(np.float32), 16000)
    paths = tuple(tmp_path / f"{name}.wav" for name in "ab")
    nothing = SpeechSet(("yes", "no"), (), np.zeros(0, np.int32), (), 3520)
    clips = SpeechSet(("?",), paths, np.zeros(2, np.int32), ("a", "b"), 3520)
    task = KeywordTask(nothing, nothing, spec, [], SoundAugment(), 0)
    made = unlabelled_inputs(task, clips)(np.random.default_rng(1), 3)
    assert made.shape == (3, 10, 8, 1)
    assert np.isfinite(made).all()
    with pytest.raises(PassError, match="KeywordTask cannot learn from unlabelled pictures"):
        unlabelled_inputs(task, list(paths))
