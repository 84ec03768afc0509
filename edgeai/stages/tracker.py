"""Tracks from detections: ByteTrack's two-stage association (arXiv:2110.06864) on a vectorised Kalman filter."""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.stages.assignment import match
from edgeai.stages.boxes import iou_matrix
from edgeai.stages.kalman import BoxFilter, to_centres
from edgeai.types import Detections

State: TypeAlias = Literal["tentative", "confirmed", "lost", "removed"]
Happening: TypeAlias = Literal["match", "promote", "miss", "expire"]

# promote: matched for the confirm_hits-th time in a row, or later. expire: lost for longer than lost_s.
TRANSITIONS: dict[State, dict[Happening, State]] = {
    "tentative": {"match": "tentative", "promote": "confirmed", "miss": "removed", "expire": "tentative"},
    "confirmed": {"match": "confirmed", "promote": "confirmed", "miss": "lost", "expire": "confirmed"},
    "lost": {"match": "confirmed", "promote": "confirmed", "miss": "lost", "expire": "removed"},
    "removed": {"match": "removed", "promote": "removed", "miss": "removed", "expire": "removed"},
}
_STATES: tuple[State, ...] = tuple(TRANSITIONS)
_HAPPENINGS: tuple[Happening, ...] = ("match", "promote", "miss", "expire")
_NEXT = np.array([[_STATES.index(TRANSITIONS[s][h]) for h in _HAPPENINGS] for s in _STATES], np.int8)
_TENTATIVE, _CONFIRMED, _LOST, _REMOVED = range(4)
_MATCH, _PROMOTE, _MISS, _EXPIRE = range(4)


class TrackerSettings(Settings):
    """Scores and IoUs are 0..1; times are in seconds, so that the frame rate does not matter.

    high_score: detections of at least this are matched first. low_score: then those down to this, to the tracks left over.
    new_score: one of at least this that matches nothing begins a track. match_iou: the least IoU of a match of the first
    kind. low_match_iou: of one of the second kind. tentative_match_iou: of one with a track that is not yet confirmed.
    confirm_hits: frames in a row after which a track is confirmed. lost_s: how long a confirmed track that is unseen is
    remembered.
    """

    high_score: Annotated[float, Field(ge=0, le=1)] = 0.5
    low_score: Annotated[float, Field(ge=0, le=1)] = 0.1
    new_score: Annotated[float, Field(ge=0, le=1)] = 0.5
    match_iou: Annotated[float, Field(gt=0, le=1)] = 0.2
    low_match_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    tentative_match_iou: Annotated[float, Field(gt=0, le=1)] = 0.3
    confirm_hits: Annotated[int, Field(ge=1, le=1000)] = 3
    lost_s: Annotated[float, Field(ge=0, le=3600)] = 2.0

    @model_validator(mode="after")
    def _scores_rise(self) -> TrackerSettings:
        if not self.low_score <= self.high_score <= self.new_score:
            raise ValueError("low_score <= high_score <= new_score must hold")
        return self


class Tracker:
    """Gives detections the ids of their tracks; matches only within a class. One tracker a camera.

    started, ended: ids confirmed at, and given up at, the last update (ascending). An id is given at confirmation,
    counts from 1 and is never used again, not even after `reset`.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self.started: tuple[int, ...] = ()
        self.ended: tuple[int, ...] = ()
        self._last_id = 0
        self._forget()

    def _forget(self) -> None:
        self._filter = BoxFilter()
        self._states = np.empty(0, np.int8)
        self._ids = np.empty(0, np.int64)
        self._classes = np.empty(0, np.int32)
        self._hits = np.empty(0, np.int32)
        self._seen_s = np.empty(0, np.float64)
        self._now_s: float | None = None
        self._answer = Detections.empty()  # the last update's
        self._held = False

    def reset(self) -> None:
        """Forget every track, as at a cut or a restarted stream; those that were confirmed are in `ended`."""
        self.started = ()
        self.ended = tuple(sorted(self._ids[self._ids >= 0].tolist()))
        self._forget()

    def update(self, detections: Detections, time_s: float) -> Detections:
        """The detections of this frame that belong to confirmed tracks, in their order, with track_ids set.

        time_s: the frame's time, not before that of the last update. Boxes that are empty or not finite are
        ignored. Raises StageError where time goes back.
        """
        dt_s = self._advance(time_s)
        with np.errstate(over="ignore", invalid="ignore"):
            self._answer = self._update(detections, time_s, dt_s)
        self._held = False
        return self._answer

    @property
    def unsettled(self) -> bool:
        """Whether a track is not confirmed yet, or out of sight: the next frames decide, whether anything moves or not.

        It ends by itself: a track is confirmed, given up at its first miss, found again, or out of sight for lost_s.
        """
        return bool(((self._states == _TENTATIVE) | (self._states == _LOST)).any())

    def hold(self, time_s: float) -> Detections:
        """In place of `update`, for a frame that nobody looked at because nothing moves: what `update` last answered.

        The clock of every track stands still meanwhile, however long: what was in sight stays where it was and has no
        speed afterwards, what was out of sight has as much of lost_s left as before. `started` and `ended` are empty.
        time_s and Raises: as for `update`.
        """
        self._seen_s += self._advance(time_s)
        if not self._held:
            self._held = True
            with np.errstate(over="ignore", invalid="ignore"):
                self._filter.stop(self._states == _CONFIRMED)
        self.started = self.ended = ()
        return self._answer

    def _advance(self, time_s: float) -> float:
        """Set the clock; the seconds since it was set last."""
        before_s = self._now_s
        if not math.isfinite(time_s) or (before_s is not None and time_s < before_s):
            raise StageError(
                f"frames must come in order of time: {time_s} s after {before_s} s",
                next_step="call reset() where a stream begins again",
            )
        self._now_s = time_s
        return 0.0 if before_s is None else time_s - before_s

    def _update(self, detections: Detections, time_s: float, dt_s: float) -> Detections:
        ended = self._expire(time_s)
        self._filter.predict(dt_s)

        xyxy, scores, classes = detections.xyxy_px, detections.scores, detections.class_ids
        sound = np.isfinite(xyxy).all(axis=1) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
        high = sound & (scores >= self.settings.high_score)
        low = sound & (scores >= self.settings.low_score) & ~high
        track_of = np.full(len(scores), -1, np.intp)
        boxes = self._filter.boxes()

        def associate(tracks: NDArray[np.bool_], candidates: NDArray[np.bool_], least_iou: float) -> None:
            rows = np.flatnonzero(tracks)
            columns = np.flatnonzero(candidates & (track_of < 0))
            if not len(rows) or not len(columns):
                return
            weights = iou_matrix(boxes[rows], xyxy[columns])
            gated = (weights < least_iou) | (self._classes[rows][:, None] != classes[columns][None, :])
            # a better score is the better match at the same overlap, as in ByteTrack's fuse_score
            weights *= scores[columns]
            weights[gated] = 0.0
            matched, found = match(weights)
            track_of[columns[found]] = rows[matched]

        known = self._states != _TENTATIVE
        associate(known, high, self.settings.match_iou)
        unmatched = self._states == _CONFIRMED
        unmatched[track_of[track_of >= 0]] = False
        associate(unmatched, low, self.settings.low_match_iou)
        associate(~known, high, self.settings.tentative_match_iou)

        hit = np.flatnonzero(track_of >= 0)
        rows = track_of[hit]
        measured = to_centres(xyxy)
        self._filter.correct(rows, measured[hit])
        self._hits[rows] += 1
        self._seen_s[rows] = time_s
        happenings = np.full(len(self._states), _MISS)
        happenings[rows] = np.where(self._hits[rows] >= self.settings.confirm_hits, _PROMOTE, _MATCH)

        new = np.flatnonzero(high & (track_of < 0) & (scores >= self.settings.new_score))
        track_of[new] = len(self._states) + np.arange(len(new))
        self._append(measured[new], classes[new], time_s)
        first = _PROMOTE if self.settings.confirm_hits == 1 else _MATCH
        happenings = np.concatenate([happenings, np.full(len(new), first)])

        before = self._states
        self._states = _NEXT[before, happenings]
        self._filter.hold_size((before == _CONFIRMED) & (self._states == _LOST))
        self._number_confirmed()
        ids = np.where(track_of >= 0, np.append(self._ids, -1)[track_of], -1)
        seen = np.flatnonzero(ids >= 0)
        self.ended = tuple(sorted(ended))
        self._sweep()
        kept = detections.select(seen)
        return Detections(kept.xyxy_px, kept.scores, kept.class_ids, ids[seen].astype(np.int64))

    def _expire(self, time_s: float) -> list[int]:
        """Remove the tracks that were lost too long; their ids.

        A track of the last frame stays however long the gap was: its next position decides.
        """
        late = (self._states == _LOST) & (time_s - self._seen_s > self.settings.lost_s)
        self._states[late] = _NEXT[self._states[late], _EXPIRE]
        ids: list[int] = self._ids[late].tolist()
        self._sweep()
        return ids

    def _append(self, measured: NDArray[np.float64], classes: NDArray[np.int32], time_s: float) -> None:
        count = len(measured)
        if not count:
            return
        self._filter.append(measured)
        self._states = np.concatenate([self._states, np.full(count, _TENTATIVE, np.int8)])
        self._ids = np.concatenate([self._ids, np.full(count, -1, np.int64)])
        self._classes = np.concatenate([self._classes, classes.astype(np.int32)])
        self._hits = np.concatenate([self._hits, np.ones(count, np.int32)])
        self._seen_s = np.concatenate([self._seen_s, np.full(count, time_s)])

    def _number_confirmed(self) -> None:
        fresh = np.flatnonzero((self._states == _CONFIRMED) & (self._ids < 0))
        self._ids[fresh] = self._last_id + 1 + np.arange(len(fresh))
        self._last_id += len(fresh)
        self.started = tuple(self._ids[fresh].tolist())

    def _sweep(self) -> None:
        keep = self._states != _REMOVED
        if keep.all():
            return
        self._filter.select(keep)
        for name in ("_states", "_ids", "_classes", "_hits", "_seen_s"):
            setattr(self, name, getattr(self, name)[keep])
