"""`edgeai listen`: keywords in a recording or from a microphone."""

from __future__ import annotations

from contextlib import ExitStack

from edgeai.bundle import load_bundle
from edgeai.cli.host import this_host
from edgeai.console import print_json, print_note
from edgeai.pipeline import VoicePipeline, heard_facts, padded
from edgeai.sources.audio import is_microphone, open_audio


def listen_to(
    source: str,
    model: str,
    *,
    engine: str | None,
    threshold: float | None,
    verify: bool,
    json_output: bool,
) -> int:
    """Print every keyword as it fires; a file is padded with silence so that words at its edges count."""
    heard = 0
    with ExitStack() as stack:
        pipeline = stack.enter_context(
            VoicePipeline(
                load_bundle(model),
                engine=engine,
                host=this_host(verify=verify),
                threshold=threshold,
            )
        )
        opened = stack.enter_context(
            open_audio(source, stream="audio", sample_rate_hz=pipeline.spec.sample_rate_hz)
        )
        live = is_microphone(source)
        if live and not json_output:
            print_note("listening; Ctrl-C ends")
        for chunk in iter(opened) if live else padded(iter(opened), pipeline.window_s / 2):
            for keyword in pipeline.process(chunk):
                heard += 1
                if json_output:
                    print_json(heard_facts(keyword))
                else:
                    print(f"{keyword.time_s:8.2f} s  {keyword.label:<12} {keyword.score:.2f}", flush=True)
    if not heard and not json_output:
        print_note("no keyword was heard")
    return 0
