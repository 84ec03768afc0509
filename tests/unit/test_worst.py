"""The worst examples: found in order, and drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.compress


def scored_pictures(folder):
    from compress.data.detection import DetectionSet, LabelledPicture
    from compress.measure.scored_pictures import ScoredPictures
    from edgeai.bundle.manifest import ImageInput
    from edgeai.types import Detections

    boxes = np.array([[10, 10, 50, 50], [60, 10, 90, 40]], np.float32)
    pictures, found = [], []
    none = np.zeros((0, 4), np.float32)
    # right; one missed and one of another class; a false one beside the two
    told = (
        (boxes, (0, 1), (0.9, 0.8)),
        (boxes[:1], (1,), (0.9,)),
        (np.vstack([boxes, [[5, 60, 30, 90]]]).astype(np.float32), (0, 1, 0), (0.9, 0.9, 0.7)),
    )
    for number, (xyxy, ids, scores) in enumerate(told):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((100, 100, 3), 90, np.uint8))
        pictures.append(
            LabelledPicture(path, 100, 100, boxes, np.array([0, 1], np.int32), np.ones(2, np.float32), none)
        )
        found.append(Detections(xyxy, np.array(scores, np.float32), np.array(ids, np.int32)))
    data = DetectionSet(labels=("cat", "dog"), pictures=tuple(pictures))
    return ScoredPictures(data, found, np.zeros(3), ImageInput(kind="image", width=96, height=96), 0.5)


def test_pictures_with_most_mistakes_come_first(tmp_path):
    mistakes = scored_pictures(tmp_path).mistakes()
    assert [(one.index, one.text) for one in mistakes] == [
        (1, "1 missed, 1 of another class, of 2"),
        (2, "1 false, of 2"),
    ]


def test_confusion_counts_the_same_boxes(tmp_path):
    names, counts = scored_pictures(tmp_path).confusion()
    assert names == ("cat", "dog", "(nothing)")
    assert counts.tolist() == [[2, 1, 0], [0, 2, 1], [1, 0, 0]]


def test_a_sheet_shows_truth_and_what_was_said(tmp_path):
    from compress.report.worst import TILE_HEIGHT, TILE_WIDTH, draw_worst_pictures, write_sheet

    scored = scored_pictures(tmp_path)
    sheet = draw_worst_pictures(scored, scored.mistakes())
    assert sheet.shape[1] == 3 * TILE_WIDTH
    tile = sheet[:TILE_HEIGHT, :TILE_WIDTH].astype(int)
    # orange is drawn for what was said, green for what is there
    assert (np.abs(tile - (0, 94, 213)).sum(axis=2) == 0).any()
    assert (np.abs(tile - (115, 158, 0)).sum(axis=2) == 0).any()
    path = write_sheet(tmp_path / "new" / "worst.jpg", sheet)
    assert cv2.imread(str(path)).shape == sheet.shape


def test_words_that_were_said_most_firmly_come_first():
    from compress.measure.scored_classes import ScoredClasses

    scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.2, 0.8]])
    scored = ScoredClasses(
        ("yes", "no"), ("a", "b", "c", "d"), ("a", "b", "c", "d"), scores, np.array([0, 0, 0, 1])
    )
    assert [(one.index, one.text) for one in scored.mistakes()] == [
        (2, "yes (0.05) taken for no (0.95)"),
        (1, "yes (0.40) taken for no (0.60)"),
    ]


def test_sounds_are_drawn_low_pitch_below():
    from compress.measure.scored import Mistake
    from compress.report.worst import TILE_HEIGHT, TILE_WIDTH, draw_worst_sounds

    features = np.zeros((20, 8), np.float32)
    features[:, 0] = 1  # the lowest band
    sheet = draw_worst_sounds(
        [str(Path("word") / "a.wav")], [Mistake(0, "yes taken for no", 1.0)], lambda index: features
    )
    tile = sheet[:TILE_HEIGHT, :TILE_WIDTH].astype(int).sum(axis=2)
    assert tile[-10].mean() > 2 * tile[10].mean()
