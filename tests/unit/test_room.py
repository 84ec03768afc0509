"""Generated rooms: the direct path's delay and gain, the first echo, the decay, and what is no room."""

from __future__ import annotations

import numpy as np
import pytest

from compress.train.room import SOUND_M_PER_S, eyring_absorption, open_room_bank, shoebox_response
from edgeai.errors import DataError

RATE = 16000
ROOM = (6.0, 5.0, 3.0)


def response(source=(1.0, 2.0, 1.5), microphone=(4.0, 2.0, 1.5), reflection=0.7, seconds=0.1, **more):
    return shoebox_response(
        ROOM, source, microphone, reflection, sample_rate_hz=RATE, seconds=seconds, **more
    )


def test_the_direct_path_comes_when_and_as_loud_as_physics_says():
    heard = response(reflection=0.0)
    assert np.flatnonzero(heard).tolist() == [round(3.0 / SOUND_M_PER_S * RATE)]
    assert heard.max() == pytest.approx(1 / (4 * np.pi * 3.0), rel=1e-5)


def test_one_wall_echo_is_where_its_mirror_image_is():
    # floor and ceiling are both 1.5 m away: two images at sqrt(3^2 + 3^2), each weakened by one wall
    heard = response(reflection=0.5)
    path = np.hypot(3.0, 3.0)
    at = round(path / SOUND_M_PER_S * RATE)
    assert heard[at] == pytest.approx(2 * 0.5 / (4 * np.pi * path), rel=1e-3)
    assert np.flatnonzero(heard)[1] == at


def test_source_and_microphone_can_be_exchanged():
    here, there = (1.0, 2.0, 1.5), (4.4, 3.1, 1.2)
    np.testing.assert_allclose(response(here, there), response(there, here), atol=1e-6)


@pytest.mark.parametrize("rt60_s", [0.2, 0.35, 0.5])
def test_the_decay_is_near_eyrings_formula(rt60_s):
    room = (5.0, 4.5, 4.0)
    reflection = np.sqrt(1 - eyring_absorption(room, rt60_s))
    heard = shoebox_response(
        room, (1.1, 1.3, 1.2), (3.7, 3.2, 1.7), reflection, sample_rate_hz=RATE, seconds=0.75 * rt60_s
    )
    # gains are all positive, so what the formula does not know adds up near 0 Hz
    spectrum = np.fft.rfft(heard, 2 * len(heard))
    spectrum[np.fft.rfftfreq(2 * len(heard), 1 / RATE) < 80] = 0
    loud = np.fft.irfft(spectrum)[: len(heard)]
    energy = np.cumsum(loud[::-1] ** 2)[::-1]  # Schroeder's backward integral
    level_db = 10 * np.log10(energy / energy[0])
    begin, end = np.argmax(level_db < -5), np.argmax(level_db < -20)
    assert (end - begin) / RATE * 60 / 15 == pytest.approx(rt60_s, rel=0.15)


def test_disorder_keeps_the_direct_path_first():
    even = response(microphone=(1.4, 2.0, 1.5))
    uneven = response(microphone=(1.4, 2.0, 1.5), disorder_m=0.05, rng=np.random.default_rng(0))
    assert (even != uneven).any()
    assert np.flatnonzero(even)[0] == np.flatnonzero(uneven)[0]


def test_a_bank_has_unit_energy_starts_at_once_and_repeats():
    bank = open_room_bank(sample_rate_hz=8000, count=8, seed=3)
    assert bank.responses.shape == (8, 2400)
    assert bank.responses.dtype == np.float32
    np.testing.assert_allclose(np.square(bank.responses).sum(1), 1, rtol=1e-4)
    assert (bank.responses[:, 0] != 0).all()
    early = np.square(bank.responses[:, :1200]).sum(1)
    assert (early > 0.8).all(), "a room's energy comes early"
    assert open_room_bank(sample_rate_hz=8000, count=8, seed=3) is bank
    open_room_bank.cache_clear()
    np.testing.assert_array_equal(
        open_room_bank(sample_rate_hz=8000, count=8, seed=3).responses, bank.responses
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": (7.0, 1.0, 1.0)}, "source"),
        ({"microphone": (1.0, 1.0, 3.0)}, "microphone"),
        ({"reflection": 1.0}, "reflection"),
        ({"seconds": 5.0}, "images"),
    ],
)
def test_what_is_no_room_is_told(changes, message):
    with pytest.raises(DataError, match=message):
        response(**changes)
