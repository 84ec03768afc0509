"""Pictures of what went wrong, for `eval --worst` and `zoo-eval`."""

from __future__ import annotations

from pathlib import Path

from compress.cli.evaluate import Evaluated
from compress.data.speech import read_clip
from compress.measure.bundle import load_clips
from compress.measure.scored_pictures import ScoredPictures
from compress.measure.wake_word import ScoredWakeWord
from compress.report.worst import SHOWN, draw_worst_pictures, draw_worst_sounds, write_sheet
from edgeai.bundle.manifest import LogMelInput
from edgeai.stages.audio.logmel import log_mel


def write_worst(made: Evaluated, data: Path, split: str, path: Path) -> Path | None:
    """Write a sheet of the worst examples; None where none went wrong, or what is wrong cannot be seen.

    Raises EdgeError where it cannot be written.
    """
    mistakes = made.scored.mistakes()[:SHOWN]
    spec = made.bundle.manifest.input
    if not mistakes:
        return None
    if isinstance(made.scored, ScoredPictures):
        return write_sheet(path, draw_worst_pictures(made.scored, mistakes))
    if isinstance(made.scored, ScoredWakeWord) and isinstance(spec, LogMelInput):
        paths, rate = made.scored.paths, spec.sample_rate_hz
        return write_sheet(
            path,
            draw_worst_sounds(
                made.scored.names,
                mistakes,
                lambda index: log_mel(read_clip(paths[index], sample_rate_hz=rate), spec),
            ),
        )
    if isinstance(spec, LogMelInput):
        clips = load_clips(made.bundle, data, split, made.bundle.manifest.labels)
        return write_sheet(
            path,
            draw_worst_sounds(made.scored.names, mistakes, lambda index: log_mel(clips.clip(index), spec)),
        )
    return None
