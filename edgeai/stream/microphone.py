"""A microphone, or a sound file, at work."""

from __future__ import annotations

import contextlib
import threading
import time

from edgeai.bundle import load_bundle
from edgeai.config import MicrophoneSettings
from edgeai.engines import EngineHost
from edgeai.errors import UsageError
from edgeai.pipeline import VoicePipeline, keyword_event, padded
from edgeai.sources.audio import is_microphone, open_audio
from edgeai.stream.stream import Overrides, Stream
from edgeai.types import JsonValue


class MicrophoneStream(Stream):
    """A microphone's, or a sound file's, way to keyword events: a thread and an engine of its own.

    source: what it reads.
    """

    kind = "microphone"
    settings: MicrophoneSettings

    def __init__(
        self, settings: MicrophoneSettings, *, threads: int = 1, host: EngineHost | None = None
    ) -> None:
        """Raises BundleError, EngineError, StageError, or SourceError for an address of an unknown kind."""
        self._pipeline = VoicePipeline(
            load_bundle(settings.model),
            engine=settings.engine,
            host=host,
            threads=threads,
            threshold=settings.threshold,
        )
        self._live = is_microphone(settings.source)
        with contextlib.ExitStack() as undo:
            undo.callback(self._pipeline.close)
            self.source = open_audio(
                settings.source, stream=settings.name, sample_rate_hz=self._pipeline.spec.sample_rate_hz
            )
            undo.pop_all()
        engine = self._pipeline.engine
        super().__init__(
            settings,
            bundle=self._pipeline.bundle_id,
            name=self._pipeline.name,
            engine=engine.label,
            reason=engine.reason,
        )

    def _start(self) -> None:
        self.source.open()
        threading.Thread(target=self._work, name=self.name, daemon=True).start()

    def end(self) -> None:
        super().end()
        if self._live:  # a file is asked between its chunks
            self.source.close()

    def _work(self) -> None:
        fault: BaseException | None = None
        try:
            self._listen()
        except BaseException as raised:
            fault = raised
        finally:
            # an engine is closed after the last call into it, by the thread that made it
            self.close()
            self._conclude(fault)

    def _listen(self) -> None:
        pipeline, report = self._pipeline, self.report
        chunks = iter(self.source) if self._live else padded(iter(self.source), pipeline.window_s / 2)
        for chunk in chunks:
            if self.ending:
                return
            self._do_changes()
            self.time_s = chunk.start_s
            began_s = time.perf_counter()
            heard = pipeline.process(chunk)
            self.latencies.add(time.perf_counter() - began_s)
            report.frames += 1
            self._deliver([keyword_event(keyword, report.name) for keyword in heard])

    def close(self) -> None:
        self.source.close()
        self._pipeline.close()

    def dropped(self) -> dict[str, JsonValue]:
        return {}

    def check(self, overrides: Overrides) -> None:
        if overrides.disabled or overrides.rules:
            raise UsageError(f"{self.label} is no camera: it cannot be disabled")
        if overrides.threshold is not None and not 0 < overrides.threshold <= 1:
            raise UsageError(
                f"a microphone's threshold must be above 0 and at most 1, is {overrides.threshold:g}"
            )

    def _apply(self, overrides: Overrides) -> None:
        threshold = self.settings.threshold if overrides.threshold is None else overrides.threshold
        self._pipeline.set_threshold(threshold)
