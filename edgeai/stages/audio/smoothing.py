"""From a model's scores to keyword events: one event for one utterance. It is the decoder "keyword" of a bundle."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgeai.bundle.manifest import LogMelInput, Settings
from edgeai.errors import StageError
from edgeai.stages.params import read_params

State = Literal["idle", "fired"]
Level = Literal["high", "held", "middle", "low"]

# What each keyword does at its level: "high" is at or above the threshold, being the highest of such keywords, and
# nothing fired in the last refractory_s; "held" is as loud but must wait; "low" is below the re-arm threshold. From
# idle to fired is the event.
TRANSITIONS: Mapping[State, Mapping[Level, State]] = {
    "idle": {"high": "fired", "held": "idle", "middle": "idle", "low": "idle"},
    "fired": {"high": "fired", "held": "fired", "middle": "fired", "low": "idle"},
}

Unit = Annotated[float, Field(ge=0, le=1)]
DEFAULT_IGNORE = ("silence", "unknown")

# Slack for times that are sums of binary fractions; far below any hop.
_EPSILON_S = 1e-6


class SmootherSettings(Settings):
    """The parameters of the decoder "keyword".

    average_s: scores of the last so many seconds are averaged. step_s: how often the model runs. threshold: the mean
    score at which a keyword fires; `thresholds` sets it per keyword. rearm: a keyword that fired may fire again once
    its mean was below rearm * its threshold. refractory_s: no keyword fires for so long after any event, because
    the tail of a word often looks like another one. ignore: labels that never fire. activation: what turns the
    model's outputs into probabilities.
    """

    average_s: Annotated[float, Field(ge=0.001, le=10)] = 0.3
    step_s: Annotated[float, Field(ge=0.001, le=10)] = 0.1
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.6
    thresholds: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    rearm: Unit = 0.5
    refractory_s: Annotated[float, Field(ge=0, le=60)] = 0.7
    ignore: tuple[str, ...] = DEFAULT_IGNORE
    activation: Literal["none", "softmax"] = "none"

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> SmootherSettings:
        """The settings of `Decoder.params`. Raises StageError that names a wrong key's nearest, or a wrong value."""
        return read_params(cls, params, decoder="keyword")

    def step_frames(self, spec: LogMelInput) -> int:
        """step_s in whole hops of the front end, at least one; what FeatureWindow takes."""
        return max(1, round(self.step_s * spec.sample_rate_hz / spec.hop_samples))


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword that was heard.

    score: the mean probability that fired, 0..1. time_s: the end of the audio on which it fired. start_s: the first
    score in the run during which the keyword's mean stayed above its re-arm threshold, start_s <= time_s.
    """

    label: str
    score: float
    time_s: float
    start_s: float


class KeywordSmoother:
    """Scores of one stream in, keywords out. Not for several threads."""

    def __init__(self, settings: SmootherSettings, labels: Sequence[str]) -> None:
        """Raises StageError for doubled labels and for thresholds or ignored labels that the model does not have."""
        self.settings = settings
        self.labels = tuple(labels)
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise StageError(f"a keyword model needs labels, each once, got {list(self.labels)}")
        explicit = [*settings.thresholds]
        if "ignore" in settings.model_fields_set:
            explicit += [name for name in settings.ignore if name not in DEFAULT_IGNORE]
        for name in explicit:
            if name not in self.labels:
                near = difflib.get_close_matches(name, self.labels, n=1)
                raise StageError(
                    f"the model has no keyword {name!r}",
                    next_step=f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(self.labels)}",
                )
        self.set_thresholds(settings)
        self.reset()

    def set_thresholds(self, settings: SmootherSettings) -> None:
        """Fire and re-arm as `settings` say from the next score on; what else they say, and what is held, stays."""
        thresholds = [settings.thresholds.get(label, settings.threshold) for label in self.labels]
        self._thresholds = np.array(thresholds, np.float64)
        # an ignored label gets a threshold that no mean of probabilities reaches
        self._thresholds[[label in self.settings.ignore for label in self.labels]] = np.inf
        self._rearm = self._thresholds * settings.rearm

    def reset(self) -> None:
        """Forget the stream: every keyword idle, no scores held."""
        self._scores: deque[tuple[float, NDArray[np.float64]]] = deque()
        self._states: list[State] = ["idle"] * len(self.labels)
        self._onset_s: list[float | None] = [None] * len(self.labels)
        self._quiet_until_s = -np.inf

    @property
    def means(self) -> NDArray[np.float64]:
        """(K,) the mean probabilities that the last update decided on; zeros before the first."""
        if not self._scores:
            return np.zeros(len(self.labels))
        return np.asarray(np.mean([scores for _, scores in self._scores], axis=0))

    def update(self, scores: NDArray[np.floating[Any]], time_s: float) -> Keyword | None:
        """Take the model's (K,) output for the window that ends at `time_s`; the keyword that fires now, if any.

        The mean is over what there is of the last average_s, so the first scores of a stream count alone. Raises
        StageError for another shape, for NaN, for scores outside 0..1 (activation "none") and for time going back.
        """
        if self._scores and time_s < self._scores[-1][0]:
            raise StageError(
                f"keyword scores go back in time, from {self._scores[-1][0]:.3f} s to {time_s:.3f} s",
                next_step="reset the smoother where a stream begins again",
            )
        self._scores.append((time_s, self._probabilities(scores)))
        while self._scores[0][0] <= time_s - self.settings.average_s + _EPSILON_S:
            self._scores.popleft()
        means = self.means
        fired: Keyword | None = None
        levels = self._levels(means, time_s)
        for k, level in enumerate(levels):
            if level == "low":
                self._onset_s[k] = None
            elif self._onset_s[k] is None:
                self._onset_s[k] = time_s
            before, after = self._states[k], TRANSITIONS[self._states[k]][level]
            self._states[k] = after
            if before == "idle" and after == "fired":
                onset_s = self._onset_s[k]
                fired = Keyword(
                    self.labels[k], float(means[k]), time_s, time_s if onset_s is None else onset_s
                )
                self._quiet_until_s = time_s + self.settings.refractory_s
        return fired

    def _levels(self, means: NDArray[np.float64], time_s: float) -> list[Level]:
        high = means >= self._thresholds
        armed = high & np.array([state == "idle" for state in self._states])
        may_fire = bool(armed.any()) and time_s >= self._quiet_until_s - _EPSILON_S
        best = int(np.argmax(np.where(armed, means, -1.0))) if may_fire else -1
        levels: list[Level] = []
        for k, mean in enumerate(means):
            if high[k]:
                levels.append("high" if k == best else "held")
            else:
                levels.append("low" if mean < self._rearm[k] else "middle")
        return levels

    def _probabilities(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = np.asarray(scores, np.float64)
        if values.shape != (len(self.labels),):
            raise StageError(f"keyword scores must be ({len(self.labels)},), one a label, got {values.shape}")
        if not np.isfinite(values).all():
            raise StageError(
                f"keyword scores hold NaN or infinity: {values.tolist()}",
                next_step="check the bundle with `edgeai bundle verify`",
            )
        if self.settings.activation == "softmax":
            powers = np.exp(values - values.max())
            return np.asarray(powers / powers.sum())
        if values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise StageError(
                f"keyword scores must be probabilities, got {values.min():.3g} to {values.max():.3g}",
                next_step='set the decoder\'s activation to "softmax" where the model gives logits',
            )
        return values
