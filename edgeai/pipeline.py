"""The two ways through the runtime, in the order of their steps: a frame becomes events, sound becomes keywords."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import Decoder, ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_engine
from edgeai.errors import BundleError
from edgeai.stages.audio.smoothing import Keyword, KeywordSmoother, SmootherSettings
from edgeai.stages.audio.window import FeatureWindow
from edgeai.stages.decoders import open_decoder
from edgeai.stages.letterbox import letterbox
from edgeai.stages.rules import AnyRuleSettings, Rule, Scene, open_rule
from edgeai.stages.tracker import Tracker, TrackerSettings
from edgeai.types import Chunk, Detections, Event, Frame


@dataclass(frozen=True, slots=True)
class Seen:
    """What one frame gave: `tracks` are confirmed objects with ids, `found` everything the model said."""

    frame: Frame
    found: Detections
    tracks: Detections
    events: tuple[Event, ...]


class CameraPipeline:
    """Letterbox, engine, decoder, tracker and rules of one camera. One thread at a time; holds an engine of its own."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        rules: Sequence[AnyRuleSettings] = (),
        tracker: TrackerSettings | None = None,
        engine: str | None = None,
        threads: int = 1,
        score_threshold: float | None = None,
    ) -> None:
        """Raises BundleError for a bundle of another task, EngineError, StageError for rules that do not fit."""
        spec = bundle.manifest.input
        if bundle.manifest.task != "detect" or not isinstance(spec, ImageInput):
            raise BundleError(
                f"bundle {bundle.name} is for task {bundle.manifest.task!r}, a camera needs 'detect'",
                next_step="name a detector, for example person-detector",
            )
        self.labels = bundle.labels
        self._spec = spec
        self._decoder = open_decoder(
            _with_param(bundle.manifest.decoder, "score_threshold", score_threshold), labels=bundle.labels
        )
        self.rules: tuple[Rule, ...] = tuple(open_rule(rule, labels=bundle.labels) for rule in rules)
        self._tracker = Tracker(tracker)
        self.engine: EdgeEngine = open_engine(bundle, file=engine, threads=threads)
        self._input = self.engine.inputs[0].name
        self._picture = np.empty((spec.height, spec.width, 3), np.uint8)

    def detect(self, frame: Frame) -> Detections:
        """Objects on the frame, in its pixels."""
        picture, placement = letterbox(frame.image, self._spec, out=self._picture)
        outputs = self.engine.run({self._input: picture})
        return self._decoder.decode(outputs, placement)

    def process(self, frame: Frame) -> Seen:
        """The whole way of one frame; frames come in order of time."""
        found = self.detect(frame)
        tracks = self._tracker.update(found, frame.time_s)
        scene = Scene(
            tracks,
            frame.image.shape[1],
            frame.image.shape[0],
            frame.time_s,
            frame.stream,
            self._tracker.started,
            self._tracker.ended,
        )
        events = tuple(event for rule in self.rules for event in rule.update(scene))
        return Seen(frame, found, tracks, events)

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> CameraPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class VoicePipeline:
    """Log-mel window, engine and smoothing of one microphone."""

    def __init__(
        self, bundle: Bundle, *, engine: str | None = None, threads: int = 1, threshold: float | None = None
    ) -> None:
        """Raises BundleError for a bundle of another task, EngineError, StageError for settings that do not fit."""
        spec = bundle.manifest.input
        if bundle.manifest.task != "keyword" or not isinstance(spec, LogMelInput):
            raise BundleError(
                f"bundle {bundle.name} is for task {bundle.manifest.task!r}, a microphone needs 'keyword'",
                next_step="name a keyword model, for example commands",
            )
        self.spec = spec
        decoder = _with_param(bundle.manifest.decoder, "threshold", threshold)
        settings = SmootherSettings.from_params(decoder.params)
        self._window = FeatureWindow(spec, settings.step_frames(spec))
        self._smoother = KeywordSmoother(settings, bundle.labels)
        self.engine: EdgeEngine = open_engine(bundle, file=engine, threads=threads)
        self._input = self.engine.inputs[0]

    def process(self, chunk: Chunk) -> list[Keyword]:
        """Keywords that fire within this chunk; chunks follow each other without gaps."""
        heard = []
        for time_s, features in self._window.push(chunk):
            (scores,) = self.engine.run({self._input.name: features.reshape(self._input.shape)}).values()
            keyword = self._smoother.update(scores.reshape(-1), time_s)
            if keyword is not None:
                heard.append(keyword)
        return heard

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> VoicePipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def padded(chunks: Iterator[Chunk], seconds: float) -> Iterator[Chunk]:
    """A finite recording with silence before and after it, so that words at its edges get their whole window."""
    last: Chunk | None = None
    for chunk in chunks:
        if last is None:
            yield Chunk(_silence(chunk, seconds), chunk.sample_rate_hz, chunk.start_s - seconds, chunk.stream)
        yield chunk
        last = chunk
    if last is not None:
        end_s = last.start_s + len(last.samples) / last.sample_rate_hz
        yield Chunk(_silence(last, seconds), last.sample_rate_hz, end_s, last.stream)


def _silence(like: Chunk, seconds: float) -> Any:
    return np.zeros(round(seconds * like.sample_rate_hz), np.float32)


def keyword_event(keyword: Keyword, stream: str) -> Event:
    """The event that a heard keyword becomes."""
    return Event(
        "keyword",
        stream,
        keyword.time_s,
        {"keyword": keyword.label, "score": round(keyword.score, 4), "start_s": round(keyword.start_s, 3)},
    )


def _with_param(decoder: Decoder, name: str, value: float | None) -> Decoder:
    return decoder if value is None else Decoder(name=decoder.name, params={**decoder.params, name: value})
