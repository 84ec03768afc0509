"""The device's half of the demo: the student's bundle on the second half, MQTT with an outage, keywords."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.demo.broker import DemoBroker, Subscriber
from compress.demo.footage import Clip
from edgeai.bundle import Bundle, load_bundle
from edgeai.cli.annotate import AnnotatedVideo
from edgeai.console import print_note, progress_bar
from edgeai.errors import BundleMissingError
from edgeai.pipeline import CameraPipeline, VoicePipeline, padded
from edgeai.sinks import open_reporting
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sources.audio_file import AudioFile
from edgeai.sources.video_file import VideoFile
from edgeai.stages.rules import LineSettings, TrackSettings

OUTAGE_S = 5.0
RUN_S = 18.0  # the second half is played in about this long, so that the outage falls into the middle of it
ARRIVE_S = 30.0
PAD_S = 0.5
RULES = (
    LineSettings(name="middle", a=(0.5, 0.0), b=(0.5, 1.0), forward="leftwards", backward="rightwards"),
    TrackSettings(name="people"),
)


@dataclass
class LiveResult:
    """sent, received: events, each counted once. frame_jpeg: an annotated frame from the middle, for the report."""

    sent: int = 0
    received: int = 0
    outage_s: float = 0.0
    during_outage: int = 0
    frames: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    frame_jpeg: bytes = b""


@dataclass(frozen=True, slots=True)
class KeywordResult:
    """said: what is known to be said, "" where nobody knows. heard: the best keyword that fired, "" for none."""

    file: str
    said: str
    heard: str
    score: float

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "said": self.said, "heard": self.heard, "score": round(self.score, 3)}


def run_live(video: Path, bundle: Bundle, *, work: Path, annotated: Path) -> LiveResult:
    """Play the second half through the pipeline, with the broker away for OUTAGE_S in the middle."""
    result = LiveResult()
    sent: set[str] = set()
    for old in work.glob("outbox.db*"):
        old.unlink()
    with DemoBroker(work) as broker:
        print_note(f"  broker: {broker.name}")
        subscriber = Subscriber(broker.subscriber_port, work)
        try:
            settings = MqttSettings(host="127.0.0.1", port=broker.port, site="demo")
            with open_reporting(settings, work / "outbox.db", device="demo-camera") as sink:
                outage = threading.Thread(target=_interrupt, args=(broker, result), daemon=True)
                _play(video, bundle, sink, sent, result, annotated, outage)
                outage.join()
                sink.flush(ARRIVE_S)
            subscriber.wait_for(sent, timeout_s=ARRIVE_S)
            result.received = len(subscriber.ids() & sent)
        finally:
            subscriber.close()
    result.sent = len(sent)
    return result


def _play(
    video: Path,
    bundle: Bundle,
    sink: Any,
    sent: set[str],
    result: LiveResult,
    annotated: Path,
    outage: threading.Thread,
) -> None:
    with (
        CameraPipeline(bundle, rules=RULES) as pipeline,
        VideoFile(str(video), stream="gate", start=0.5) as source,
        AnnotatedVideo(annotated, fps=source.fps or 10.0) as writer,
    ):
        count = max(1, source.frame_count // 2)
        pause_s = RUN_S / count
        began = time.monotonic()
        with progress_bar("second half", count) as advance:
            for number, frame in enumerate(source):
                seen = pipeline.process(frame)
                for event in seen.events:
                    sink.send(event)
                    sent.add(event.id)
                    result.during_outage += outage.is_alive()
                picture = writer.write(seen, pipeline)
                if number == count // 2:
                    result.frame_jpeg = _jpeg(picture)
                result.frames += 1
                advance(1)
                if number == count // 3:
                    outage.start()
                time.sleep(max(0.0, began + (number + 1) * pause_s - time.monotonic()))
        if outage.ident is None:
            outage.start()
        result.counts = {
            rule.settings.name: {k: v for k, v in rule.totals().items() if k in ("leftwards", "rightwards")}
            for rule in pipeline.rules
            if isinstance(rule.settings, LineSettings)
        }


def _interrupt(broker: DemoBroker, result: LiveResult) -> None:
    stopped = time.monotonic()
    broker.stop()
    print_note("  --- the broker is stopped; events go to the outbox on disk ---")
    time.sleep(OUTAGE_S)
    broker.start()
    result.outage_s = time.monotonic() - stopped
    print_note("  --- the broker is back ---")


def _jpeg(picture: Any) -> bytes:
    import cv2

    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return bytes(encoded.tobytes())


def hear_clips(clips: Sequence[Clip]) -> list[KeywordResult]:
    """Each clip through the zoo's keyword model as a device would hear it, silence before and after."""
    if not clips:
        return []
    try:
        bundle = load_bundle("commands")
    except BundleMissingError as error:
        print_note(f"  {error}")
        return []
    results = []
    for clip in clips:
        with (
            VoicePipeline(bundle) as pipeline,
            AudioFile(
                clip.path, stream=clip.path.stem, sample_rate_hz=pipeline.spec.sample_rate_hz
            ) as source,
        ):
            heard = [k for chunk in padded(iter(source), PAD_S) for k in pipeline.process(chunk)]
        best = max(heard, key=lambda k: k.score, default=None)
        name = f"{clip.path.parent.name}/{clip.path.name}"
        results.append(
            KeywordResult(name, clip.said, best.label if best else "", best.score if best else 0.0)
        )
        print_note(
            f"  {name}: heard {results[-1].heard or 'nothing'}" + (f", said {clip.said}" if clip.said else "")
        )
    return results
