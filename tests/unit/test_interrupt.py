"""Ctrl-C is raised between steps, a second one at once."""

from __future__ import annotations

import signal
import threading

import pytest

from compress.train.interrupt import interrupt_between_steps


@pytest.fixture(autouse=True)
def as_a_shell_starts_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_step_is_finished_first():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupt_between_steps() as interrupted:
        for step in range(3):
            interrupted()
            signal.raise_signal(signal.SIGINT)
            done.append(step)
    assert done == [0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_the_last_step_it_is_raised_at_the_end():
    with pytest.raises(KeyboardInterrupt), interrupt_between_steps():
        signal.raise_signal(signal.SIGINT)


def test_a_second_one_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), interrupt_between_steps():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not reached")


def test_another_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError), interrupt_between_steps():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_a_signal_that_somebody_else_handles_is_left_alone():
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with interrupt_between_steps():
        signal.raise_signal(signal.SIGINT)
    assert seen == [signal.SIGINT]


def test_other_threads_are_left_alone():
    def work():
        with interrupt_between_steps() as interrupted:
            interrupted()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
