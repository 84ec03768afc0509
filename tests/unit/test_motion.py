"""The motion gate: what opens it, what does not, and for how long."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgeai.errors import StageError
from edgeai.stages.motion import Motion, MotionGate, MotionSettings

HEIGHT, WIDTH, FPS = 360, 640, 10.0
QUICK = MotionSettings(hold_s=0.0, refresh_s=86400.0)


def street() -> np.ndarray:
    """A picture with structure at every scale, 60 to 180 grey levels."""
    rng = np.random.default_rng(5)
    grain = sum(
        np.kron(rng.uniform(-1, 1, (HEIGHT // side, WIDTH // side, 3)), np.ones((side, side, 1)))
        for side in (40, 20, 10)
    )
    return np.clip(120 + 20 * grain, 0, 255).astype(np.uint8)


STREET = street()


def with_box(x: float, y: float = 150, w: int = 40, h: int = 80, level: int = 230, on=STREET) -> np.ndarray:
    image = on.copy()
    image[round(y) : round(y) + h, round(x) : round(x) + w] = level
    return image


def watch(gate: MotionGate, images, start_s: float = 0.0) -> list[Motion]:
    return [gate.update(image, start_s + index / FPS) for index, image in enumerate(images)]


def noisy(images, sigma: float, seed: int = 0):
    """Gaussian noise, of each pixel and channel its own; a few fields of it, shifted for each picture."""
    rng = np.random.default_rng(seed)
    fields = rng.normal(0, sigma, (4, HEIGHT, WIDTH, 3)).astype(np.float32)
    for image in images:
        shift = rng.integers(HEIGHT), rng.integers(WIDTH)
        yield np.clip(image + np.roll(fields[rng.integers(4)], shift, (0, 1)), 0, 255).astype(np.uint8)


def moved(seen: list[Motion], settings: MotionSettings = QUICK) -> list[int]:
    """The frames with motion, the first one, which is always new, left out."""
    return [index for index, one in enumerate(seen) if index and one.area >= settings.min_area]


def test_the_first_frame_is_looked_at_and_a_still_picture_no_more():
    seen = watch(MotionGate(QUICK), [STREET] * 50)
    assert [one.look for one in seen] == [True] + [False] * 49
    assert seen[0].area == 1.0
    assert all(one.area == 0.0 for one in seen[1:])


def test_what_appears_is_seen_at_once_and_its_area_is_told():
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 20)
    seen = gate.update(with_box(300), 2.0)
    assert seen.look
    assert seen.area == pytest.approx(40 * 80 / (WIDTH * HEIGHT), rel=0.3)


def test_what_stopped_is_still_at_once_and_is_seen_when_it_leaves():
    gate = MotionGate(QUICK)
    seen = watch(gate, [STREET] * 20 + [with_box(300)] * 100 + [STREET] * 100)
    assert [index for index, one in enumerate(seen) if one.look] == [0, 20, 120]


def test_frames_are_shown_for_hold_s_after_the_last_motion():
    gate = MotionGate(MotionSettings(hold_s=1.5))
    seen = watch(gate, [STREET] * 40 + [with_box(300)] * 40)
    assert [index for index, one in enumerate(seen) if one.look] == [*range(16), *range(40, 56)]


def test_a_frame_is_shown_every_refresh_s():
    gate = MotionGate(MotionSettings(hold_s=0.0, refresh_s=2.0))
    seen = watch(gate, [STREET] * 101)
    assert [index for index, one in enumerate(seen) if one.look] == list(range(0, 101, 20))


@pytest.mark.parametrize("px_per_s", [2, 5, 20, 80, 400])
def test_nothing_gets_farther_than_its_own_width_unseen(px_per_s):
    """1.4 % of the frame, at any speed, in noise: the tracker finds it again by its overlap."""
    ways = [60 + px_per_s * index / FPS for index in range(300)]
    ways = [x for x in ways if x < 560]
    gate, last = MotionGate(QUICK), ways[0]
    for index, image in enumerate(noisy((with_box(x) for x in ways), 3.0)):
        if gate.update(image, index / FPS).look:
            last = ways[index]
        assert ways[index] - last < 40


@pytest.mark.parametrize("sigma", [2, 4, 8, 12])
@pytest.mark.parametrize("light", [1.0, 0.2])
def test_noise_of_the_sensor_is_no_motion(sigma, light):
    night = (STREET * light).astype(np.uint8)
    seen = watch(MotionGate(QUICK), noisy([night] * 60, sigma))
    assert moved(seen) == []


def test_blotches_of_a_coder_raise_the_threshold_where_they_are_and_a_person_is_still_seen():
    rng = np.random.default_rng(1)

    def blotched(image):
        blotches = np.kron(rng.normal(0, 7, (HEIGHT // 8, WIDTH // 8, 1)), np.ones((8, 8, 3)))
        return np.clip(image + blotches, 0, 255).astype(np.uint8)

    gate = MotionGate(QUICK)
    seen = watch(gate, [blotched(STREET) for _ in range(200)])
    assert moved(seen)[-1:] < [100]  # learnt by then
    assert gate.update(blotched(with_box(300)), 20.0).look


def test_traffic_does_not_count_as_noise():
    """Something passes the same place a third of the time, for a minute; a faint thing there is seen still."""
    gate = MotionGate(QUICK)
    watch(gate, [with_box(300) if index % 30 < 10 else STREET for index in range(620)])
    assert gate.update(STREET, 63.0).area == 0
    faint = STREET.copy()
    faint[150:230, 300:340] += 25
    assert gate.update(faint, 63.1).look


def test_leaves_in_the_wind_get_a_higher_threshold_and_the_rest_does_not():
    rng = np.random.default_rng(2)
    gate = MotionGate(QUICK)

    def windy(image):
        image = image.copy()
        image[:120, :160] = np.clip(
            image[:120, :160] + np.kron(rng.normal(0, 12, (12, 16, 1)), np.ones((10, 10, 3))), 0, 255
        )
        return image

    seen = watch(gate, [windy(STREET) for _ in range(300)])
    assert len([index for index in moved(seen) if index >= 150]) < 10
    assert gate.update(windy(with_box(300, level=150)), 30.0).look


@pytest.mark.parametrize("gain", [0.6, 0.8, 1.25, 1.4])
def test_another_exposure_is_no_motion(gain):
    other = np.clip(STREET * gain, 0, 255).astype(np.uint8)
    seen = watch(MotionGate(QUICK), [STREET] * 20 + [other] * 20 + [STREET] * 20)
    assert moved(seen) == []


def test_who_comes_in_as_the_exposure_changes_is_seen():
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 20)
    assert gate.update((with_box(300) * 0.7).astype(np.uint8), 2.0).look


def test_a_soft_shadow_that_passes_is_hardly_ever_motion():
    x = np.linspace(0, 1, WIDTH)[None, :, None]
    images = [
        (STREET * (1 - 0.3 * np.clip(np.sin(2 * np.pi * (x - index / 400)), 0, 1))).astype(np.uint8)
        for index in range(400)
    ]
    assert len(moved(watch(MotionGate(QUICK), images))) <= 8  # of 400 frames


def test_dusk_is_no_motion():
    images = [(STREET * (1 - index / 400)).astype(np.uint8) for index in range(380)]
    assert moved(watch(MotionGate(QUICK), images)) == []


def test_another_picture_is_one_motion():
    """A lamp whose light has edges, a camera that was turned: seen, and taken as it is from then on."""
    other = np.ascontiguousarray(STREET[::-1, ::-1])
    seen = watch(MotionGate(QUICK), [STREET] * 20 + [other] * 20)
    assert moved(seen) == [20]
    assert seen[20].area > 0.5


@pytest.mark.parametrize(("streaks", "contrast"), [(100, 40), (10, 120)], ids=["rain", "drops_in_a_lamp"])
def test_streaks_of_rain_are_no_motion(streaks, contrast):
    rng = np.random.default_rng(3)

    def rain(image):
        image = image.astype(np.int16)
        for y, x in zip(rng.integers(0, HEIGHT - 15, streaks), rng.integers(0, WIDTH, streaks), strict=True):
            image[y : y + 15, x] += contrast
        return np.clip(image, 0, 255).astype(np.uint8)

    gate = MotionGate(QUICK)
    assert moved(watch(gate, [rain(STREET) for _ in range(100)])) == []
    assert gate.update(rain(with_box(300)), 10.0).look


def test_what_is_smaller_than_min_area_is_no_motion():
    for min_area, expected in ((0.005, True), (0.03, False)):
        gate = MotionGate(MotionSettings(hold_s=0.0, min_area=min_area))
        watch(gate, [STREET] * 5)
        assert gate.update(with_box(300), 0.5).look == expected  # 1.4 % of the frame


def test_nothing_counts_in_a_mask():
    clock = ((0.7, 0.0), (1.0, 0.0), (1.0, 0.2), (0.7, 0.2))
    images = [with_box(500 + 10 * (index % 3), y=10, h=40) for index in range(60)]
    assert len(moved(watch(MotionGate(QUICK), images))) > 20
    gate = MotionGate(MotionSettings(hold_s=0.0, refresh_s=86400.0, masks=(clock,)))
    assert moved(watch(gate, images)) == []
    assert gate.update(with_box(300), 6.0).look


def test_a_mask_over_everything_leaves_the_refresh():
    settings = MotionSettings(hold_s=0.0, refresh_s=1.0, masks=(((0, 0), (1, 0), (1, 1), (0, 1)),))
    seen = watch(MotionGate(settings), [with_box(10 * (index % 50)) for index in range(31)])
    assert [index for index, one in enumerate(seen) if one.look] == [0, 10, 20, 30]


@pytest.mark.parametrize(
    "masks",
    [
        (((0.1, 0.1), (0.2, 0.2)),),
        (((0.1, 0.1), (0.2, 0.2), (0.3, 0.3)),),
        (((0.1, 0.1), (0.2, 0.1), (0.2, 1.3)),),
    ],
    ids=["two_points", "no_area", "outside"],
)
def test_a_mask_is_a_polygon_on_the_frame(masks):
    with pytest.raises(ValidationError):
        MotionSettings(masks=masks)


def test_another_size_and_an_earlier_time_begin_anew():
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 20)
    smaller = np.ascontiguousarray(STREET[:300])
    assert gate.update(smaller, 2.0) == Motion(look=True, area=1.0)
    assert gate.update(smaller, 2.1) == Motion(look=False, area=0.0)
    assert gate.update(smaller, 0.0) == Motion(look=True, area=1.0)
    assert gate.update(smaller, 0.1) == Motion(look=False, area=0.0)


def test_after_a_reset_the_next_frame_is_looked_at():
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 20)
    gate.reset()
    assert gate.update(STREET, 2.0).look
    assert not gate.update(STREET, 2.1).look


def test_it_counts_what_it_was_asked_and_what_was_still():
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 20 + [with_box(300)] * 10)
    assert (gate.frames, gate.still) == (30, 28)


@pytest.mark.parametrize("period_s", [0.5, 5.0, 60.0])
def test_a_slow_camera_sees_what_differs_between_two_frames(period_s):
    gate = MotionGate(QUICK)
    images = [STREET, STREET, with_box(300), with_box(300), STREET]
    seen = [gate.update(image, index * period_s) for index, image in enumerate(images)]
    assert [one.look for one in seen] == [True, False, True, False, True]


@pytest.mark.parametrize("shape", ["grey", "one_channel", "bgra", "flipped", "sliced", "broadcast"])
def test_what_the_letterbox_takes_it_takes(shape):
    def view(image):
        return {
            "grey": image[..., 0],
            "one_channel": image[..., :1],
            "bgra": np.concatenate([image, image[..., :1]], axis=2),
            "flipped": image[::-1, ::-1],
            "sliced": np.repeat(image, 2, axis=1)[:, ::2],
            "broadcast": np.broadcast_to(image[200], image.shape),
        }[shape]

    gate = MotionGate(QUICK)
    assert [one.look for one in watch(gate, [view(STREET)] * 3)] == [True, False, False]
    assert gate.update(view(with_box(300)), 0.3).look


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "got NoneType"),
        (np.zeros((0, 0, 3), np.uint8), "not empty"),
        (np.zeros((4, 0, 3), np.uint8), "not empty"),
        (np.zeros((4, 4, 3), np.uint16), "scale it to 8 bits"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
    ],
    ids=["none", "empty", "no_width", "16_bit", "two_channels", "line", "batch"],
)
def test_what_is_no_picture_is_told_and_changes_nothing(image, said):
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 3)
    with pytest.raises(StageError, match=said):
        gate.update(image, 0.3)
    assert not gate.update(STREET, 0.4).look
    assert gate.frames == 4


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_none_is_told(time_s):
    gate = MotionGate(QUICK)
    watch(gate, [STREET] * 3)
    with pytest.raises(StageError, match="time"):
        gate.update(STREET, time_s)
    assert not gate.update(STREET, 0.4).look
