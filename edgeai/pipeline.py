"""The two ways through the runtime, in the order of their steps: a frame becomes events, sound becomes keywords."""

from __future__ import annotations

import math
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle import Bundle
from edgeai.bundle.manifest import Decoder, ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, EngineHost, open_engine, order_candidates
from edgeai.errors import BundleError, StageError
from edgeai.faults import nearest_hint
from edgeai.metrics import StageTimes
from edgeai.stages.audio.smoothing import Keyword, KeywordSmoother, SmootherSettings
from edgeai.stages.audio.window import FeatureWindow
from edgeai.stages.decoders import BoxDecoder, open_decoder
from edgeai.stages.letterbox import Placement, letterbox
from edgeai.stages.motion import MotionGate, MotionSettings
from edgeai.stages.rules import AnyRuleSettings, Rule, Scene, open_rule
from edgeai.stages.tracker import Tracker, TrackerSettings
from edgeai.types import Chunk, Detections, Event, Frame, JsonValue


@dataclass(frozen=True, slots=True)
class Seen:
    """What one frame gave: `tracks` are confirmed objects with ids, `found` everything the model said."""

    frame: Frame
    found: Detections
    tracks: Detections
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame's picture as the engine takes it, and the way back to the frame's pixels. The picture is overwritten by the
    next `prepare`.
    """

    picture: NDArray[np.uint8]
    placement: Placement


class CameraSteps:
    """Everything of one camera but the engine: motion gate, letterbox, decoder, tracker and rules. One thread at a time.

    name, bundle_id (name@version), labels: of the bundle. rules: opened, with their totals. times: of each step; those that
    it does not do itself are its user's to add.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        rules: Sequence[AnyRuleSettings] = (),
        tracker: TrackerSettings | None = None,
        motion: MotionSettings | None = None,
        score_threshold: float | None = None,
    ) -> None:
        """Raises BundleError for a bundle of another task, StageError for rules that do not fit."""
        self._bundle = bundle
        self._spec, self._decoder, self.rules = _camera_parts(bundle, rules, score_threshold)
        self.name = bundle.name
        self.bundle_id = f"{bundle.name}@{bundle.manifest.version}"
        self.labels = bundle.labels
        self.times = StageTimes()
        self._gate = None if motion is None else MotionGate(motion)
        self._tracker = Tracker(tracker)
        self._alive: set[int] = set()  # confirmed and not yet given up
        self._disabled: set[str] = set()
        self._scene: Scene | None = None
        self._picture = np.empty((self._spec.height, self._spec.width, 3), np.uint8)

    def moves(self, frame: Frame) -> bool:
        """Whether the model shall see this frame: always without a motion gate, and while tracks are unsettled."""
        if self._gate is None:
            return True
        began_s = time.perf_counter()
        look = self._gate.update(frame.image, frame.time_s).look
        self.times.stages["motion"].add(time.perf_counter() - began_s)
        return look or self._tracker.unsettled

    def prepare(self, frame: Frame) -> Prepared:
        """The frame as the engine takes it. Raises StageError for a picture that is none."""
        began_s = time.perf_counter()
        picture, placement = letterbox(frame.image, self._spec, out=self._picture)
        self.times.stages["prepare"].add(time.perf_counter() - began_s)
        return Prepared(picture, placement)

    def finish(self, frame: Frame, outputs: Mapping[str, NDArray[np.float32]], placement: Placement) -> Seen:
        """What the engine's outputs for this frame mean. A frame that is earlier than the one before begins the stream anew:
        all tracks end.
        """
        stages, began_s = self.times.stages, time.perf_counter()
        found = self._decoder.decode(outputs, placement)
        decoded_s = time.perf_counter()
        events = self._begin(frame)
        tracks = self._tracker.update(found, frame.time_s)
        tracked_s = time.perf_counter()
        events += self._judge(frame, tracks, self._tracker.started, self._tracker.ended)
        stages["decode"].add(decoded_s - began_s)
        stages["track"].add(tracked_s - decoded_s)
        stages["rules"].add(time.perf_counter() - tracked_s)
        return Seen(frame, found, tracks, events)

    def skip(self, frame: Frame) -> Seen:
        """A frame on which nothing moves, unseen by the model: what was seen last is still there."""
        events = self._begin(frame)
        tracks = self._tracker.hold(frame.time_s)
        events += self._judge(frame, tracks, (), ())
        return Seen(frame, tracks, tracks, events)

    def flush(self) -> tuple[Event, ...]:
        """End every track, as at the stream's end: what the rules say to that, at the time of the last frame."""
        last, self._scene = self._scene, None
        if self._gate is not None:
            self._gate.reset()
        if last is None:
            return ()
        self._tracker.reset()
        return self._apply_rules(_end_of(last, self._tracker.ended))

    def set_score_threshold(self, value: float | None) -> None:
        """From the next frame on, in place of the bundle's; None for the bundle's. Raises StageError for one that does not fit."""
        self._decoder = open_decoder(_decoder(self._bundle, value), labels=self.labels)

    def set_rule_enabled(self, name: str, enabled: bool) -> tuple[Event, ...]:
        """From the next frame on. For the rule every track ends where it is disabled, which is what the events tell, and
        begins where it is enabled: what moves in between is never counted. Raises StageError for an unknown name.
        """
        rule = next((each for each in self.rules if each.settings.name == name), None)
        if rule is None:
            names = [each.settings.name for each in self.rules]
            raise StageError(f"there is no rule {name!r}", next_step=nearest_hint(name, names))
        if enabled:
            self._disabled.discard(name)
        elif name not in self._disabled:
            self._disabled.add(name)
            if self._scene is not None:
                return tuple(rule.update(_end_of(self._scene, tuple(sorted(self._alive)))))
        return ()

    def _begin(self, frame: Frame) -> tuple[Event, ...]:
        return self.flush() if self._scene is not None and frame.time_s < self._scene.time_s else ()

    def _judge(
        self, frame: Frame, tracks: Detections, started: tuple[int, ...], ended: tuple[int, ...]
    ) -> tuple[Event, ...]:
        height, width = frame.image.shape[:2]
        self._scene = Scene(tracks, width, height, frame.time_s, frame.stream, started, ended)
        return self._apply_rules(self._scene)

    def _apply_rules(self, scene: Scene) -> tuple[Event, ...]:
        self._alive.update(scene.started)
        self._alive.difference_update(scene.ended)
        rules = [rule for rule in self.rules if rule.settings.name not in self._disabled]
        return tuple(event for rule in rules for event in rule.update(scene))


class CameraPipeline(CameraSteps):
    """The steps of one camera with an engine of their own, which `close` closes. One thread at a time.

    engine: for measuring beside it.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        rules: Sequence[AnyRuleSettings] = (),
        tracker: TrackerSettings | None = None,
        engine: str | None = None,
        host: EngineHost | None = None,
        threads: int = 1,
        score_threshold: float | None = None,
    ) -> None:
        """Raises BundleError for a bundle of another task, EngineError, StageError for rules that do not fit."""
        super().__init__(bundle, rules=rules, tracker=tracker, score_threshold=score_threshold)
        self.engine: EdgeEngine = open_engine(bundle, host=host, file=engine, threads=threads)
        self._input = self.engine.inputs[0].name

    def detect(self, frame: Frame) -> Detections:
        """Objects on the frame, in its pixels."""
        ready = self.prepare(frame)
        outputs = self.engine.run({self._input: ready.picture})
        return self._decoder.decode(outputs, ready.placement)

    def process(self, frame: Frame) -> Seen:
        """The whole way of one frame, as `finish` says."""
        ready = self.prepare(frame)
        began_s = time.perf_counter()
        outputs = self.engine.run({self._input: ready.picture})
        self.times.stages["engine"].add(time.perf_counter() - began_s)
        return self.finish(frame, outputs, ready.placement)

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> CameraPipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class VoicePipeline:
    """Log-mel window, engine and smoothing of one microphone. One thread at a time; holds an engine of its own.

    name, bundle_id (name@version): of the bundle. spec: the front end; its sample_rate_hz is what chunks must have.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: str | None = None,
        host: EngineHost | None = None,
        threads: int = 1,
        threshold: float | None = None,
    ) -> None:
        """Raises BundleError for a bundle of another task, EngineError, StageError for settings that do not fit."""
        self._bundle = bundle
        self.spec, settings, self._smoother = _voice_parts(bundle, threshold)
        self.name = bundle.name
        self.bundle_id = f"{bundle.name}@{bundle.manifest.version}"
        self._window = FeatureWindow(self.spec, settings.step_frames(self.spec))
        self.engine: EdgeEngine = open_engine(bundle, host=host, file=engine, threads=threads)
        self._input = self.engine.inputs[0]
        shapes = [output.shape for output in self.engine.outputs]
        if len(shapes) != 1 or math.prod(shapes[0]) != len(bundle.labels):
            self.close()
            raise BundleError(
                f"bundle {bundle.name}: a keyword model gives one output with one score for each of its "
                f"{len(bundle.labels)} labels, this one gives {', '.join(map(str, shapes))}",
                next_step="check the manifest's labels, or export the model with one output",
            )

    @property
    def window_s(self) -> float:
        """How much sound the model sees at once, in seconds."""
        spec = self.spec
        return ((spec.frames - 1) * spec.hop_samples + spec.window_samples) / spec.sample_rate_hz

    def process(self, chunk: Chunk) -> list[Keyword]:
        """Keywords that fire within this chunk. A chunk that does not follow the one before begins anew."""
        gaps = self._window.gaps
        windows = self._window.push(chunk)
        if self._window.gaps != gaps:
            self._smoother.reset()
            self.engine.reset()
        heard = []
        for time_s, features in windows:
            (scores,) = self.engine.run({self._input.name: features.reshape(self._input.shape)}).values()
            keyword = self._smoother.update(scores.reshape(-1), time_s)
            if keyword is not None:
                heard.append(keyword)
        return heard

    def set_threshold(self, value: float | None) -> None:
        """From the next chunk on, in place of the bundle's; None for the bundle's. What was heard so far is not forgotten.

        Raises StageError for one that does not fit.
        """
        self._smoother.set_thresholds(
            SmootherSettings.from_params(
                _with_param(self._bundle.manifest.decoder, "threshold", value).params
            )
        )

    def close(self) -> None:
        self.engine.close()

    def __enter__(self) -> VoicePipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def check_camera(
    bundle: Bundle,
    *,
    rules: Sequence[AnyRuleSettings] = (),
    engine: str | None = None,
    score_threshold: float | None = None,
) -> None:
    """Raise what CameraPipeline would, as far as that shows without opening an engine."""
    _camera_parts(bundle, rules, score_threshold)
    order_candidates(bundle, file=engine)


def check_voice(bundle: Bundle, *, engine: str | None = None, threshold: float | None = None) -> None:
    """Raise what VoicePipeline would, as far as that shows without opening an engine."""
    _voice_parts(bundle, threshold)
    order_candidates(bundle, file=engine)


def _camera_parts(
    bundle: Bundle, rules: Sequence[AnyRuleSettings], score_threshold: float | None
) -> tuple[ImageInput, BoxDecoder, tuple[Rule, ...]]:
    spec = bundle.manifest.input
    if bundle.manifest.task != "detect" or not isinstance(spec, ImageInput):
        raise BundleError(
            f"bundle {bundle.name} is for task {bundle.manifest.task!r}, a camera needs 'detect'",
            next_step="name a detector, for example person-detector",
        )
    opened = tuple(open_rule(rule, labels=bundle.labels) for rule in rules)
    return spec, open_decoder(_decoder(bundle, score_threshold), labels=bundle.labels), opened


def _decoder(bundle: Bundle, score_threshold: float | None) -> Decoder:
    return _with_param(bundle.manifest.decoder, "score_threshold", score_threshold)


def _end_of(last: Scene, ended: tuple[int, ...]) -> Scene:
    """The scene of `last` with nothing in it, and these tracks given up."""
    return replace(last, tracks=Detections.empty(), started=(), ended=ended)


def _voice_parts(
    bundle: Bundle, threshold: float | None
) -> tuple[LogMelInput, SmootherSettings, KeywordSmoother]:
    spec = bundle.manifest.input
    if bundle.manifest.task != "keyword" or not isinstance(spec, LogMelInput):
        raise BundleError(
            f"bundle {bundle.name} is for task {bundle.manifest.task!r}, a microphone needs 'keyword'",
            next_step="name a keyword model, for example commands",
        )
    decoder = _with_param(bundle.manifest.decoder, "threshold", threshold)
    if decoder.name != "keyword":
        raise BundleError(
            f"bundle {bundle.name} has the decoder {decoder.name!r}, a keyword model needs 'keyword'"
        )
    settings = SmootherSettings.from_params(decoder.params)
    return spec, settings, KeywordSmoother(settings, bundle.labels)


def padded(chunks: Iterator[Chunk], seconds: float) -> Iterator[Chunk]:
    """A finite recording with silence before and after it, so that words at its edges get their whole window."""
    last: Chunk | None = None
    for chunk in chunks:
        if last is None:
            yield _silence(chunk, seconds, chunk.start_s - seconds)
        yield chunk
        last = chunk
    if last is not None:
        yield _silence(last, seconds, last.start_s + len(last.samples) / last.sample_rate_hz)


def _silence(like: Chunk, seconds: float, start_s: float) -> Chunk:
    samples = np.zeros(round(seconds * like.sample_rate_hz), np.float32)
    return Chunk(samples, like.sample_rate_hz, start_s, like.stream)


def keyword_facts(keyword: Keyword) -> dict[str, JsonValue]:
    """What a heard keyword tells: score 0..1, start_s on the stream's clock, 0 where it begins in the padding."""
    return {
        "keyword": keyword.label,
        "score": round(keyword.score, 4),
        "start_s": round(max(0.0, keyword.start_s), 3),
    }


def heard_facts(keyword: Keyword) -> dict[str, JsonValue]:
    """keyword_facts with time_s, the end of the sound on which it fired."""
    return {"time_s": round(keyword.time_s, 3), **keyword_facts(keyword)}


def detection_facts(found: Detections, labels: Sequence[str]) -> list[dict[str, JsonValue]]:
    """What each detection tells, in their order: label, score 0..1, box [x1, y1, x2, y2] in the frame's pixels."""
    columns = zip(found.class_ids.tolist(), found.scores.tolist(), found.xyxy_px.tolist(), strict=True)
    return [
        {"label": labels[class_id], "score": round(score, 4), "box": [round(value, 1) for value in box]}
        for class_id, score, box in columns
    ]


def keyword_event(keyword: Keyword, stream: str) -> Event:
    """The event that a heard keyword becomes."""
    return Event("keyword", stream, keyword.time_s, keyword_facts(keyword))


def _with_param(decoder: Decoder, name: str, value: float | None) -> Decoder:
    return decoder if value is None else Decoder(name=decoder.name, params={**decoder.params, name: value})
