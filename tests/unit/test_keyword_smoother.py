"""One event for one utterance: the state table row by row, thresholds, averaging, refractory, bad input."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import StageError
from edgeai.stages.audio.smoothing import (
    TRANSITIONS,
    Keyword,
    KeywordSmoother,
    Level,
    SmootherSettings,
    State,
)

LABELS = ("yes", "no", "unknown", "silence")
STEP_S = 0.1


def settings(**changes: object) -> SmootherSettings:
    return SmootherSettings.from_params({"average_s": 0.1, "threshold": 0.6, "refractory_s": 0.5} | changes)


def run(smoother: KeywordSmoother, yes: list[float], no: list[float] | None = None) -> list[Keyword]:
    """Feed a score a step to "yes" (and "no"), the rest goes to "silence"."""
    events = []
    for i, (a, b) in enumerate(zip(yes, no or [0.0] * len(yes), strict=True)):
        event = smoother.update(np.array([a, b, 0, max(0.0, 1 - a - b)]), i * STEP_S)
        events += [event] if event else []
    return events


@pytest.mark.parametrize(
    ("state", "level", "after"),
    [
        ("idle", "high", "fired"),
        ("idle", "held", "idle"),
        ("idle", "middle", "idle"),
        ("idle", "low", "idle"),
        ("fired", "high", "fired"),
        ("fired", "held", "fired"),
        ("fired", "middle", "fired"),
        ("fired", "low", "idle"),
    ],
)
def test_the_table(state: State, level: Level, after: State) -> None:
    assert TRANSITIONS[state][level] == after


def test_the_table_is_whole() -> None:
    assert {(s, level) for s, row in TRANSITIONS.items() for level in row} == set(
        itertools.product(("idle", "fired"), ("high", "held", "middle", "low"))
    )


def test_one_event_however_long_the_word() -> None:
    [event] = run(KeywordSmoother(settings(), LABELS), [0.1, 0.4, 0.9] + [0.95] * 50 + [0.1])
    assert event == Keyword("yes", pytest.approx(0.9), pytest.approx(0.2), pytest.approx(0.1))


def test_a_dip_that_does_not_re_arm_gives_no_second_event() -> None:
    # re-arm is 0.5 * 0.6 = 0.3
    scores = [0.9, *[0.31, 0.9] * 10]
    assert len(run(KeywordSmoother(settings(), LABELS), scores)) == 1


def test_a_second_utterance_is_a_second_event() -> None:
    scores = [0.9] * 3 + [0.1] * 7 + [0.9] * 3
    assert [e.time_s for e in run(KeywordSmoother(settings(), LABELS), scores)] == pytest.approx([0.0, 1.0])


def test_another_keyword_waits_for_the_refractory_time() -> None:
    yes = [0.9, 0.05, 0.0, 0.0, 0.0, 0.0, 0.0]
    no = [0.0, 0.90, 0.9, 0.9, 0.9, 0.9, 0.9]
    events = run(KeywordSmoother(settings(), LABELS), yes, no)
    assert [(e.label, e.time_s) for e in events] == [("yes", 0.0), ("no", pytest.approx(0.5))]
    # what was gone by then is not told later
    assert len(run(KeywordSmoother(settings(), LABELS), yes, [0, 0.9, 0.9, 0, 0, 0, 0])) == 1


def test_the_louder_of_two_fires() -> None:
    smoother = KeywordSmoother(settings(threshold=0.3), LABELS)
    assert [e.label for e in run(smoother, [0.4] * 4, [0.45] * 4)] == ["no"]


def test_the_mean_is_over_average_s() -> None:
    smoother = KeywordSmoother(settings(average_s=0.3), LABELS)
    [event] = run(smoother, [0.0, 0.0, 0.0, 0.95, 0.95, 0.95])
    assert event.time_s == pytest.approx(0.4) and event.score == pytest.approx(1.9 / 3)
    smoother.reset()
    assert run(smoother, [0.0, 0.0, 0.0, 0.9, 0.85, 0.0, 0.0]) == []  # at most (0.9 + 0.85) / 3


def test_binary_fractions_do_not_change_how_many_scores_count() -> None:
    smoother = KeywordSmoother(settings(average_s=0.3, threshold=1.0), LABELS)
    for i in range(500):
        smoother.update(np.array([i % 3 == 0, 0, 0, 0], float), 0.99 + i * 0.1)
        if i > 2:
            assert smoother.means[0] == pytest.approx(1 / 3)


def test_thresholds_per_keyword_and_ignored_labels() -> None:
    assert run(KeywordSmoother(settings(thresholds={"yes": 0.95}), LABELS), [0.9] * 5) == []
    assert len(run(KeywordSmoother(settings(thresholds={"yes": 0.2}), LABELS), [0.3] * 5)) == 1
    assert run(KeywordSmoother(settings(ignore=["yes"]), LABELS), [0.9] * 5) == []
    smoother = KeywordSmoother(settings(), LABELS)
    assert all(smoother.update(np.array([0, 0, 0.5, 0.5]), i * STEP_S) is None for i in range(20))
    assert all(smoother.update(np.array([0, 0, 1.0, 0]), 2 + i * STEP_S) is None for i in range(20))


def test_softmax_takes_logits_of_any_size() -> None:
    smoother = KeywordSmoother(settings(activation="softmax"), LABELS)
    event = smoother.update(np.array([2000.0, 0, 0, -3000.0], np.float32), 0.0)
    assert event is not None and event.score == 1.0


def test_reset_forgets_the_utterance() -> None:
    smoother = KeywordSmoother(settings(), LABELS)
    assert len(run(smoother, [0.9])) == 1
    smoother.reset()
    assert not smoother.means.any()
    assert len(run(smoother, [0.9])) == 1


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros(3), r"must be \(4,\), one a label, got \(3,\)"),
        (np.zeros((1, 4)), r"must be \(4,\)"),
        (np.array([0, 0, np.nan, 0]), "NaN or infinity"),
        (
            np.array([-3.0, 2, 0, 0]),
            r'probabilities, got -3 to 2; set the decoder\'s activation to "softmax"',
        ),
    ],
)
def test_bad_scores_are_refused(scores: np.ndarray, message: str) -> None:
    with pytest.raises(StageError, match=message):
        KeywordSmoother(settings(), LABELS).update(scores, 0.0)


def test_time_must_not_go_back() -> None:
    smoother = KeywordSmoother(settings(), LABELS)
    run(smoother, [0.1, 0.1])
    with pytest.raises(StageError, match=r"go back in time, from 0.100 s to 0.000 s; reset"):
        smoother.update(np.zeros(4), 0.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"treshold": 0.5}, "no parameter 'treshold'; did you mean 'threshold'"),
        ({"threshold": 0}, "'threshold' of decoder 'keyword'"),
        ({"threshold": float("nan")}, "'threshold' of decoder 'keyword'"),
        ({"thresholds": {"yes": 2}}, "thresholds.yes"),
        ({"average_s": -1}, "average_s"),
        ({"activation": "relu"}, "activation"),
        ({"ignore": "unknown"}, "ignore"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, object], message: str) -> None:
    with pytest.raises(StageError, match=message):
        SmootherSettings.from_params(params)


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        ({"thresholds": {"yess": 0.5}}, LABELS, "no keyword 'yess'; did you mean 'yes'"),
        ({"ignore": ["noise"]}, LABELS, "no keyword 'noise'; "),
        ({}, ("a", "a"), "each once"),
        ({}, (), "each once"),
    ],
)
def test_settings_must_fit_the_labels(
    changes: dict[str, object], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        KeywordSmoother(settings(**changes), labels)


def test_a_wake_word_model_needs_no_unknown_or_silence() -> None:
    smoother = KeywordSmoother(settings(), ("hey",))
    assert smoother.update(np.array([0.9]), 0.0) is not None


def test_step_frames_of_the_front_end() -> None:
    assert settings(step_s=0.1).step_frames(LogMelInput()) == 5
    assert settings(step_s=0.001).step_frames(LogMelInput()) == 1


@given(
    scores=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=80), refractory_s=st.floats(0, 2)
)
def test_events_are_apart_and_re_armed(scores: list[tuple[float, float]], refractory_s: float) -> None:
    smoother = KeywordSmoother(settings(average_s=0.2, refractory_s=refractory_s), LABELS)
    events: list[Keyword] = []
    means: list[np.ndarray] = []
    for i, (yes, no) in enumerate(scores):
        event = smoother.update(np.array([yes, no, 0, 0]), i * STEP_S)
        means.append(smoother.means)
        events += [event] if event else []
    for event in events:
        assert event.start_s <= event.time_s and 0.6 <= event.score <= 1
    for before, after in itertools.pairwise(events):
        assert after.time_s - before.time_s >= refractory_s - 1e-5
    for k, label in enumerate(LABELS[:2]):
        for before, after in itertools.pairwise([e for e in events if e.label == label]):
            between = means[round(before.time_s / STEP_S) : round(after.time_s / STEP_S)]
            assert min(mean[k] for mean in between) < 0.3, "fired twice without being re-armed"


def test_another_threshold_takes_effect_and_forgets_nothing() -> None:
    smoother = KeywordSmoother(settings(threshold=0.9), LABELS)
    assert run(smoother, [0.7, 0.7]) == []
    smoother.set_thresholds(settings(threshold=0.6))
    fired = smoother.update(np.array([0.7, 0, 0, 0.3]), 0.2)
    assert fired is not None
    # it has fired: the same word is no second one, and a louder threshold changes nothing of that
    smoother.set_thresholds(settings(threshold=0.65))
    assert [smoother.update(np.array([0.7, 0, 0, 0.3]), 0.3 + i * STEP_S) for i in range(10)] == [None] * 10
    assert smoother.update(np.array([0, 0, 0.95, 0.05]), 2.0) is None  # what is ignored stays so
