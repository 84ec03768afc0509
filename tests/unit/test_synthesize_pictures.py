"""Made pictures: the pasted object is where its box says, other boxes stay, too few crops are refused, collapse is seen."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from compress.cli.data import app
from compress.data.detection import DetectionSet, LabelledPicture
from compress.data.formats.coco import load_coco, write_coco
from compress.data.synthesize import pictures as pictures_module
from compress.data.synthesize import trial
from compress.data.synthesize.crops import BOX_SHARE, contact_sheet, cut_crops, measure_likeness
from compress.data.synthesize.gan import draw_layers, put_layers, train_generator
from compress.data.synthesize.paste import Window, blend_crop, blend_layer, find_window
from compress.data.synthesize.pictures import synthesize_pictures
from edgeai.console import run_app
from edgeai.errors import DataError, UsageError

RED = (30, 30, 220)
EMPTY = np.empty((0, 4), np.float32)


def speckled(rng, height=120, width=160):
    return rng.integers(110, 130, (height, width, 3)).astype(np.uint8)


def make_folder(folder, count, *, boxes=1, suffix=".png"):
    """Grey pictures with red squares of the rare class "spot" and one blue "dot" each."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    made = []
    for number in range(count):
        image = speckled(rng)
        spots = [[10 + 40 * k, 20, 26 + 40 * k, 32] for k in range(boxes)]
        for x1, y1, x2, y2 in spots:
            image[y1:y2, x1:x2] = RED
        image[90:100, 120:130] = (220, 30, 30)
        path = folder / "images" / f"{number}{suffix}"
        cv2.imwrite(str(path), image)
        xyxy = np.array([*spots, [120, 90, 130, 100]], np.float32)
        ids = np.array([0] * boxes + [1], np.int32)
        made.append(LabelledPicture(path, 160, 120, xyxy, ids, np.ones(len(ids), np.float32), EMPTY))
    data = DetectionSet(("spot", "dot"), tuple(made))
    write_coco(folder, "train", data)
    return data


def is_red(image):
    return (image[..., 2] > 160) & (image[..., 0] < 90)


def test_a_crop_has_its_box_in_the_middle(tmp_path):
    crops = cut_crops(make_folder(tmp_path, 3), 0, size=40)
    assert crops.images.shape == (3, 40, 40, 3)
    np.testing.assert_allclose(crops.sides_px, [[16, 12]] * 3)
    for crop in crops.images:
        red = np.argwhere(is_red(crop))
        edge = 40 * (1 - BOX_SHARE) / 2
        assert red.min(0) == pytest.approx([edge, edge], abs=2)
        assert red.max(0) + 1 == pytest.approx([40 - edge, 40 - edge], abs=2)


def test_crops_past_the_edge_and_of_other_sizes_than_labelled(tmp_path):
    data = make_folder(tmp_path, 1)
    picture = data.pictures[0]
    corner = replace(picture, xyxy_px=np.array([[0, 0, 10, 10]], np.float32), class_ids=np.zeros(1, np.int32))
    small = replace(corner, xyxy_px=np.array([[0, 0, 3, 3]], np.float32))
    half = replace(picture, width=80, height=60, xyxy_px=picture.xyxy_px / 2)
    crops = cut_crops(DetectionSet(data.labels, (corner, small, half)), 0, size=32)
    assert len(crops.images) == 2, "3 pixels are too small to learn from"
    assert is_red(crops.images[1])[10:22, 10:22].all()


def test_a_crop_with_a_second_object_in_view_is_left_out(tmp_path):
    data = make_folder(tmp_path, 1)
    picture = data.pictures[0]
    close = np.array([[10, 20, 26, 32], [27, 20, 31, 32], [120, 90, 130, 100]], np.float32)
    crowded = replace(picture, xyxy_px=close, class_ids=np.array([0, 1, 0], np.int32))
    np.testing.assert_allclose(cut_crops(DetectionSet(data.labels, (crowded,)), 0).sides_px, [[10, 10]])


def test_a_pasted_object_is_where_its_box_says_and_touches_nothing():
    rng = np.random.default_rng(0)
    crop = speckled(rng, 40, 40)
    crop[8:32, 8:32] = RED
    taken = np.array([[0, 0, 160, 50], [100, 50, 160, 120]], np.float32)
    for _ in range(10):
        source = speckled(rng)
        window = find_window(source, crop, (20, 14), taken, rng=rng)
        image, box = blend_crop(source, window, crop), window.box_px
        red = np.argwhere(is_red(image))
        assert red.min(0)[::-1] == pytest.approx(box[:2], abs=2)
        assert red.max(0)[::-1] + 1 == pytest.approx(box[2:], abs=2)
        changed = np.argwhere((image != source).any(axis=2))
        assert changed[:, 0].min() >= 50 and changed[:, 1].max() < 100


def test_a_drawn_layer_leaves_what_it_does_not_cover_as_it_was():
    source = speckled(np.random.default_rng(0))
    layer = np.zeros((16, 16, 4), np.float32)
    layer[4:12, 4:12] = (*RED, 1.0)
    image = blend_layer(source, Window(30, 40, 48, 32), layer)
    assert is_red(image)[50:62, 44:64].all()
    untouched = np.ones(source.shape[:2], bool)
    untouched[43:69, 35:73] = False
    np.testing.assert_array_equal(image[untouched], source[untouched])
    assert not is_red(source).any(), "the picture itself was written to"


def test_a_crop_goes_where_its_surroundings_are():
    picture = np.full((200, 200, 3), 250, np.uint8)
    picture[:, 60:70] = 10  # a track from top to bottom
    crop = np.full((40, 40, 3), 250, np.uint8)
    crop[:, 16:24] = 10
    crop[18:22, 10:30] = 10
    for seed in range(5):
        window = find_window(picture, crop, (24, 24), EMPTY, rng=np.random.default_rng(seed))
        assert window.x + window.width / 2 == pytest.approx(65, abs=4)


@pytest.mark.parametrize(
    ("sides", "taken"),
    [((200, 10), EMPTY), ((10, 200), EMPTY), ((10, 10), np.array([[0, 0, 100, 100]], np.float32))],
)
def test_without_room_there_is_no_window(sides, taken):
    crop = np.zeros((32, 32, 3), np.uint8)
    picture = np.zeros((100, 100, 3), np.uint8)
    assert find_window(picture, crop, sides, taken, rng=np.random.default_rng(0)) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_copies_keep_every_box_and_add_one(tmp_path, suffix):
    make_folder(tmp_path / "data", 4, suffix=suffix)
    made = synthesize_pictures(tmp_path / "data", "spot", tmp_path / "new", count=6, method="copy")
    assert (made.crops, made.pictures, made.likeness) == (4, 6, None)
    data = load_coco(tmp_path / "new", "train", None)
    assert data.labels == ("spot", "dot") and len(data) == 6
    for picture in data.pictures:
        assert picture.path.suffix == suffix
        assert picture.class_ids.tolist() == [0, 1, 0]
        image = cv2.imread(str(picture.path))
        x1, y1, x2, y2 = picture.xyxy_px[-1].round().astype(int)
        assert is_red(image)[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean() > 0.9
    sheet = cv2.imread(str(tmp_path / "new" / "contact_sheet.png"))
    assert sheet is not None and sheet.shape[1] == 16 * 128


def test_the_seed_repeats(tmp_path):
    make_folder(tmp_path / "data", 4)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        synthesize_pictures(tmp_path / "data", "spot", tmp_path / name, count=3, method="copy", seed=seed)
    a, b, c = (sorted(p.read_bytes() for p in (tmp_path / n / "images").iterdir()) for n in "abc")
    assert a == b != c


def test_too_few_crops_are_refused_with_what_to_do(tmp_path):
    make_folder(tmp_path / "data", 11)
    with pytest.raises(DataError, match=r"11 boxes of 'spot'.*at least 12.*--method copy"):
        synthesize_pictures(tmp_path / "data", "spot", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "spotty"}, "there is no label 'spotty'; there is spot, dot"),
        ({"count": 0}, "count"),
        ({"steps": 0}, "steps"),
        ({"split": "test"}, "there to be measured on"),
        ({"split": "hold-out"}, "there to be measured on"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, changes, message):
    make_folder(tmp_path / "data", 2)
    with pytest.raises(UsageError, match=message):
        synthesize_pictures(tmp_path / "data", **{"label": "spot", **changes}, out=tmp_path / "new")


def test_pictures_without_room_leave_no_folder(tmp_path):
    data = make_folder(tmp_path / "data", 2)
    full = tuple(replace(p, crowd_px=np.array([[0, 0, 160, 120]], np.float32)) for p in data.pictures)
    write_coco(tmp_path / "data", "train", replace(data, pictures=full))
    with pytest.raises(DataError, match="no free place"):
        synthesize_pictures(tmp_path / "data", "spot", tmp_path / "new", count=2, method="copy")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("arguments", [["--method", "draw", "--out", "x"], [], ["--try", "--out", "x"]])
def test_wrong_options_are_one_line(tmp_path, arguments, monkeypatch, capsys):
    make_folder(tmp_path / "data", 2)
    monkeypatch.setattr(
        "sys.argv", ["data", "synthesize", "pictures", str(tmp_path / "data"), "--label", "spot", *arguments]
    )
    assert run_app(app, program="data") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_command_tells_what_it_made(tmp_path, monkeypatch, capsys):
    make_folder(tmp_path / "data", 3)
    line = ["synthesize", "pictures", str(tmp_path / "data"), "--label", "spot", "--count", "2"]
    line += ["--method", "copy", "--out", str(tmp_path / "new"), "--json"]
    monkeypatch.setattr("sys.argv", ["data", *line])
    assert run_app(app, program="data") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["crops"], told["pictures"], told["likeness"]) == (3, 2, None)


def blots(count, seed):
    """Soft random pictures, no two alike."""
    noise = np.random.default_rng(seed).integers(0, 255, (count, 4, 4, 3)).astype(np.uint8)
    return np.stack([cv2.resize(one, (32, 32)) for one in noise])


def test_collapse_memory_and_idleness_are_seen():
    real, grounds = blots(60, 0), blots(60, 1)
    fresh = measure_likeness(real, grounds, blots(60, 2))
    assert fresh.faults == ()
    assert fresh.novelty == pytest.approx(1, abs=0.3)
    told = measure_likeness(real, grounds // 2, grounds // 2 + np.uint8(40)).faults
    assert len(told) == 1 and "mode collapse" in told[0]
    assert "next to nothing" in measure_likeness(real, grounds, grounds).faults[0]
    assert "repeats" in measure_likeness(real, grounds, real[:, :, ::-1]).faults[0], (
        "a mirror image is a copy too"
    )
    assert "unlike" in measure_likeness(real // 8, grounds, blots(60, 3)).faults[0]


def test_a_contact_sheet_shows_both():
    sheet = contact_sheet(np.zeros((3, 32, 32, 3), np.uint8), np.full((90, 32, 32, 3), 200, np.uint8))
    assert sheet.shape == (2 * 4 * 32 + 4, 16 * 32, 3)
    assert (sheet[0, 0] == 0).all() and (sheet[-1, -1] == 200).all()


@pytest.mark.compress
def test_a_network_learns_to_draw_and_the_seed_repeats(tmp_path):
    crops, grounds = blots(12, 0)[:, :16, :16], blots(7, 1)[:, :16, :16]
    generator = train_generator(crops, grounds, steps=2, seed=1)
    layers = draw_layers(generator, grounds, seed=1)
    assert layers.shape == (7, 16, 16, 4)
    assert layers[..., :3].min() >= 0 and layers[..., :3].max() <= 255
    assert layers[..., 3].min() >= 0 and 0.1 < layers[..., 3].max() <= 1
    assert layers[:, [0, -1], :, 3].max() < 0.15, "the rim stays as it was"
    np.testing.assert_array_equal(layers, draw_layers(generator, grounds, seed=1))
    assert (layers != draw_layers(generator, grounds, seed=2)).any()
    made = put_layers(grounds, layers)
    assert made.dtype == np.uint8 and (made != grounds).any()
    with pytest.raises(DataError, match="too few"):
        train_generator(crops[:11], grounds, steps=2)


def test_a_class_made_rare_keeps_that_many_and_hides_the_rest(tmp_path):
    data = make_folder(tmp_path, 4, boxes=3)
    rare = trial.make_rare(data, 0, keep=5, rng=np.random.default_rng(0))
    assert sum((p.class_ids == 0).sum() for p in rare.pictures) == 5
    assert sum((p.class_ids == 1).sum() for p in rare.pictures) == 4
    assert sum(len(p.crowd_px) for p in rare.pictures) == 7
    for before, after in zip(data.pictures, rare.pictures, strict=True):
        every = np.concatenate((after.xyxy_px, after.crowd_px))
        assert sorted(every.tolist()) == sorted(before.xyxy_px.tolist())


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ({"copy": 0.0, "gan": 0.3}, "helped, +0.300 (+0.300 to +0.300) AP50, and more than copies"),
        ({"copy": 0.4, "gan": 0.3}, "and less than copies"),
        ({"copy": 0.0, "gan": -0.3}, "did harm"),
        ({"copy": 0.0, "gan": 0.0}, "no clear difference"),
        ({"copy": -0.5, "gan": -0.5, "plain": -0.5}, "says nothing"),
    ],
)
def test_a_trial_tells_help_from_harm_and_from_chance(tmp_path, monkeypatch, gains, said):
    learnt, held_out = make_folder(tmp_path, 50).split(trial.HELD_OUT)
    right = np.random.default_rng(0).random(50) < 0.5

    def train(training, held, class_id, work, steps, seed, name):
        arm = name.split(",")[0]
        extra = {"plain": 0.0, **gains}[arm]
        assert name == f"{arm}, seed {seed}"
        assert len(training) == len(learnt) + (4 if arm != "plain" else 0)
        assert not {p.path for p in training.pictures} & {p.path for p in held.pictures}

        def average(picks):
            chosen = right[: len(held)] if picks is None else right[picks]
            return max(0.0, 0.4 + extra + 0.1 * (chosen.mean() - 0.5))

        return average

    monkeypatch.setattr(trial, "_train_and_measure", train)
    monkeypatch.setattr(pictures_module, "MIN_WINDOWS", 4)
    monkeypatch.setattr(pictures_module, "train_generator", lambda crops, backgrounds, **_: None)
    monkeypatch.setattr(
        pictures_module,
        "draw_layers",
        lambda generator, backgrounds, seed: np.full((*backgrounds.shape[:3], 4), 0.5, np.float32),
    )
    done = trial.try_pictures(tmp_path, "spot", keep=15, count=4, generator_steps=1, steps=1)
    assert said in done.verdict
    assert (done.kept, done.held_out, done.boxes) == (15, len(held_out), len(held_out))
    assert [arm.name for arm in done.arms] == ["plain", "copy", "gan"]
    assert done.arms[2].gain.value == pytest.approx(
        max(gains["gan"], -0.4) - max(gains.get("plain", 0), -0.4), abs=0.1
    )
    assert all(len(arm.by_seed) == 2 for arm in done.arms)


def test_a_trial_without_enough_to_measure_on_is_refused(tmp_path):
    make_folder(tmp_path, 12)
    with pytest.raises(DataError, match="say nothing"):
        trial.try_pictures(tmp_path, "spot", generator_steps=1)
