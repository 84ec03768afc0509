"""The vectorised filter against the textbook's, with whole 8 x 8 matrices."""

from __future__ import annotations

import numpy as np

from edgeai.stages.kalman import BoxFilter, to_centres, to_corners

POSITION, SPEED, BIRTH, MEASURED = 0.27, 1.03, 1.9, 0.05


class Textbook:
    """One track: x' = F x, P' = F P F^T + Q; K = P H^T (H P H^T + R)^-1; P = (I - K H) P."""

    def __init__(self, measured: np.ndarray) -> None:
        sides = measured[[2, 3, 2, 3]]
        self.x = np.concatenate([measured, np.zeros(4)])
        self.p = np.diag(np.concatenate([(MEASURED * sides) ** 2, (BIRTH * sides) ** 2]))

    def predict(self, dt: float) -> None:
        sides = self.x[[2, 3, 2, 3]]
        f = np.block([[np.eye(4), dt * np.eye(4)], [np.zeros((4, 4)), np.eye(4)]])
        q = np.diag((SPEED * sides) ** 2)
        noise = np.block([[q * dt**3 / 3, q * dt**2 / 2], [q * dt**2 / 2, q * dt]])
        noise[:4, :4] += np.diag((POSITION * sides) ** 2 * dt)
        self.x, self.p = f @ self.x, f @ self.p @ f.T + noise

    def correct(self, measured: np.ndarray) -> None:
        h = np.hstack([np.eye(4), np.zeros((4, 4))])
        r = np.diag((MEASURED * measured[[2, 3, 2, 3]]) ** 2)
        gain = self.p @ h.T @ np.linalg.inv(h @ self.p @ h.T + r)
        self.x = self.x + gain @ (measured - h @ self.x)
        self.p = (np.eye(8) - gain @ h) @ self.p


def test_states_are_those_of_the_textbook():
    rng = np.random.default_rng(5)
    start = rng.uniform(50, 200, (6, 4))
    tracks, books = BoxFilter(), [Textbook(row) for row in start]
    tracks.append(start)
    truth, speed = start.copy(), rng.normal(0, 20, (6, 4)) * [1, 1, 0.1, 0.1]
    for _ in range(60):
        dt = float(rng.uniform(0.01, 0.5))
        truth += speed * dt
        tracks.predict(dt)
        rows = np.flatnonzero(rng.random(6) < 0.7)
        measured = truth[rows] + rng.normal(0, 2, (len(rows), 4))
        measured[:, 2:] = np.maximum(measured[:, 2:], 20)
        tracks.correct(rows, measured)
        for book in books:
            book.predict(dt)
        for row, box in zip(rows, measured, strict=True):
            books[row].correct(box)
        if min(book.x[2:4].min() for book in books) < 2:
            break  # below 1 px the filter holds the size, the textbook does not
        np.testing.assert_allclose(tracks.position, [book.x[:4] for book in books], rtol=1e-9)
        np.testing.assert_allclose(tracks.speed, [book.x[4:] for book in books], rtol=1e-7, atol=1e-9)


def test_one_long_step_is_many_short_ones():
    once, often = BoxFilter(), BoxFilter()
    for tracks in (once, often):
        tracks.append(np.array([[100.0, 100, 40, 80]]))
        tracks.correct(np.array([0]), np.array([[101.0, 99, 40, 80]]))
    once.predict(1.0)
    for _ in range(10):
        often.predict(0.1)
    for tracks in (once, often):
        tracks.correct(np.array([0]), np.array([[120.0, 90, 42, 78]]))
    np.testing.assert_allclose(once.position, often.position, rtol=1e-3)
    np.testing.assert_allclose(once.speed, often.speed, rtol=1e-2)


def test_rows_are_kept_and_dropped_together():
    tracks = BoxFilter()
    tracks.append(np.arange(12.0).reshape(3, 4) + 10)
    tracks.select(np.array([True, False, True]))
    assert len(tracks) == 2
    assert tracks.position[:, 0].tolist() == [10, 18]


def test_corners_and_centres_are_inverse():
    boxes = np.array([[1, 2, 5, 10], [0, 0, 3, 3]], np.float32)
    np.testing.assert_array_equal(to_corners(to_centres(boxes)), boxes)


def test_what_is_stopped_stays_and_can_move_again():
    tracks = BoxFilter()
    tracks.append(np.array([[100.0, 100, 40, 80], [300.0, 100, 40, 80]]))
    for step in range(1, 9):
        tracks.predict(0.1)
        tracks.correct(np.array([0, 1]), np.array([[100.0 + 10 * step, 100, 40, 80], [300.0, 100, 40, 80]]))
    place = tracks.position.copy()
    tracks.stop(np.array([True, False]))
    assert tracks.speed[0].tolist() == [0, 0, 0, 0]
    tracks.predict(60.0)
    np.testing.assert_array_equal(tracks.position[0], place[0])
    for step in range(1, 9):
        tracks.predict(0.1)
        tracks.correct(np.array([0]), np.array([[place[0, 0] + 20 * step, 100, 40, 80]]))
    np.testing.assert_allclose(tracks.speed[0, 0], 200, rtol=0.05)
