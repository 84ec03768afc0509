"""Self-supervised pre-training: what it looks at, what it changes, and how it says that nothing was learnt."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tiny_recipe import write_squares

from compress.train.fit import FitResult
from compress.train.pretrain import PretrainSettings, backbone_layers, feature_maps, pretrain
from compress.train.pretrain_loss import match_loss, sample_map, view_loss
from compress.train.pretrain_views import ViewSettings
from edgeai.bundle.manifest import ImageInput
from edgeai.errors import DataError, PassError

pytestmark = pytest.mark.compress
SPEC = ImageInput(width=64, height=64, std=(255.0, 255.0, 255.0))
QUICK = PretrainSettings(steps=12, batch=6, learning_rate=5e-3, average=0.5, width=16)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder, count=12, size=96)
    return sorted((folder / "images").glob("*.png"))


def detector(keras, size=64, seed=0):
    from compress.networks.plain_detector import plain_detector

    keras.utils.set_random_seed(seed)
    return plain_detector(height=size, width=size, classes=1, channels=(8, 8, 8, 8), head_channels=8)


def shapes(network):
    return {name: tuple(t.shape[1:]) for name, t in feature_maps(network).items()}


def test_features_of_a_detector_are_what_its_outputs_share(keras):
    assert shapes(detector(keras)) == {"head_8_act": (8, 8, 8), "head_16_act": (4, 4, 8)}


def test_features_of_a_classifier_are_those_before_the_pooling(keras):
    from compress.networks.classifier import cnn_classifier

    (shape,) = shapes(cnn_classifier(height=64, width=96, classes=3, multiplier=0.25, depth=1)).values()
    assert shape[:2] == (2, 3)


def test_features_of_heads_in_branches_are_those_before_the_branches(keras):
    picture = keras.Input((32, 32, 3))
    stem = keras.layers.Conv2D(4, 3, strides=8, padding="same", name="shared")(picture)
    branch = keras.layers.Conv2D(4, 1, name="branch")(stem)
    outputs = {
        name: keras.layers.Conv2D(1, 1, name=name)(x) for name, x in (("box", branch), ("class", stem))
    }
    assert list(feature_maps(keras.Model(picture, outputs))) == ["shared"]


def test_the_backbone_is_what_every_output_needs(keras):
    names = [layer.name for layer in backbone_layers(detector(keras))]
    assert names[0] == "stem" and {"stage3_block2", "fusion_16_lateral_norm"} <= set(names)
    assert not [name for name in names if name.startswith(("head", "box", "class", "fusion_8"))]

    picture = keras.Input((32, 32, 3))
    twice = keras.layers.Conv2D(4, 3, padding="same", name="twice")
    x = keras.layers.Conv2D(4, 3, name="once")(picture)
    x = twice(keras.layers.ZeroPadding2D()(x))
    pooled = keras.layers.GlobalMaxPooling2D()(x)
    hidden = keras.layers.Dense(4, name="hidden")(pooled)
    also = keras.layers.GlobalMaxPooling2D()(twice(x))
    outputs = {"class": keras.layers.Dense(2)(hidden), "other": keras.layers.Dense(2)(also)}
    assert [layer.name for layer in backbone_layers(keras.Model(picture, outputs))] == ["once"]
    alone = keras.Model(picture, {"class": outputs["class"]})
    assert [layer.name for layer in backbone_layers(alone)] == ["once", "twice"]


def test_a_network_without_pictures_or_features_is_told(keras):
    heard = keras.Input((20, 16, 1))
    with pytest.raises(PassError, match="does not look at colour pictures"):
        feature_maps(keras.Model(heard, {"keyword": keras.layers.Flatten()(heard)}))
    picture = keras.Input((8, 8, 3))
    with pytest.raises(PassError, match="share no feature map"):
        feature_maps(keras.Model(picture, {"class": keras.layers.Flatten()(picture)}))


def test_the_backbone_learns_and_the_heads_stay(keras, pictures, tmp_path):
    network = detector(keras)
    before = {layer.name: layer.get_weights() for layer in network.layers if layer.weights}
    nodes = [len(layer._inbound_nodes) for layer in network.layers]
    checkpoint = tmp_path / "pretrain.npz"
    result = pretrain(network, pictures, SPEC, QUICK, description="pretrain", checkpoint=checkpoint)
    assert len(result.losses) == 12 and result.losses[-1] < result.losses[0]
    assert result.spread > 0.1 and result.pictures == 12
    assert 0 <= result.by_chance < 0.01 and 0 <= result.matched <= 1
    assert not checkpoint.exists()
    # what follows layers through the network, as pruning does, must find it as it was
    assert [len(layer._inbound_nodes) for layer in network.layers] == nodes
    for layer in network.layers:
        if layer.weights:
            same = all((a == b).all() for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
            assert same == layer.name.startswith(("head", "box", "class", "fusion_8")), layer.name


@pytest.fixture
def untrained(monkeypatch):
    """Leaves the training out: compiling a step takes longer than all the rest."""
    monkeypatch.setattr(
        "compress.train.pretrain.fit", lambda *args, **options: FitResult([1.0], steps=1, best_step=1)
    )


def test_pictures_that_are_all_the_same_collapse_and_change_nothing(keras, tmp_path, untrained):
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path in paths:
        cv2.imwrite(str(path), np.full((96, 96, 3), 90, np.uint8))
    network = detector(keras)
    before = network.get_weights()
    dull = QUICK.model_copy(update={"steps": 2, "views": ViewSettings(colour=0, tint=0, grey=0, blur=0)})
    with pytest.raises(
        PassError, match=r"pretrain: the embeddings collapsed.*check that the pictures differ"
    ):
        pretrain(network, paths, SPEC, dull, description="pretrain")
    for now, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_data_that_cannot_teach_is_told(keras, pictures, tmp_path):
    with pytest.raises(DataError, match="7 pictures are too few"):
        pretrain(detector(keras), pictures[:7], SPEC, QUICK, description="pretrain")
    (tmp_path / "broken.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"broken\.jpg is no picture"):
        pretrain(detector(keras), [tmp_path / "broken.jpg"] * 8, SPEC, QUICK, description="pretrain")


def test_a_network_of_one_size_asks_for_whole_views(keras, pictures, untrained):
    picture = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(picture)
    x = keras.layers.Reshape((8, 8, 4))(keras.layers.Dense(256)(keras.layers.Flatten()(x)))
    network = keras.Model(picture, {"class": keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(x))})
    with pytest.raises(PassError, match=r"cannot look at 32 x 32 pixels.*view = 1.0"):
        pretrain(network, pictures, SPEC, QUICK, description="pretrain")
    whole = QUICK.model_copy(update={"steps": 1, "view": 1.0})
    assert len(pretrain(network, pictures, SPEC, whole, description="pretrain").losses) == 1


def test_a_map_is_read_between_the_middles_of_its_cells(keras):
    features = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)  # value = 4 * row + column
    points = np.array([[(0.125, 1 / 6), (0.875, 5 / 6), (0.5, 0.5), (0.0, 0.0), (1.0, 1.0)]], np.float32)
    np.testing.assert_allclose(sample_map(features, points)[0, :, 0], [0, 11, 5.5, 0, 11], atol=1e-5)
    assert sample_map(features[:, :1, :1], points).numpy().ravel().tolist() == [0] * 5


def test_the_loss_is_low_where_the_right_rows_are_alike(keras):
    rows = np.random.default_rng(0).normal(0, 1, (64, 32)).astype(np.float32)
    right, wrong = (float(match_loss(rows, other, 0.1)) for other in (rows, rows[::-1]))
    same = float(match_loss(np.ones_like(rows), np.ones_like(rows), 0.1))
    assert right < 0.1 < np.log(64) < wrong
    assert same == pytest.approx(np.log(64), rel=1e-3)
    views = np.stack([rows[:8], rows[:8]], 1).reshape(16, 1, 1, 32)
    points = np.full((8, 1, 2), 0.5, np.float32)
    parts = view_loss(
        {"map": views, "pooled": views[:, 0, 0]},
        {"first": points, "second": points},
        maps=("map",),
        pooled_share=0.3,
        temperature=0.1,
    )
    assert float(parts["loss"]) == pytest.approx(float(parts["map"]), rel=1e-4)
    assert float(parts["pooled"]) < 0.1


@pytest.mark.data
def test_features_of_yolox_are_those_before_its_branches(keras, shared_data):
    from compress.networks.yolox import yolox_from_onnx

    file = shared_data / "models" / "detectors" / "yolox_nano_coco_416.onnx"
    network = yolox_from_onnx(file, height=64, width=64, keep_classes=[0])
    assert list(shapes(network).values()) == [(8, 8, 64), (4, 4, 64), (2, 2, 64)]
