"""`edgeai-compress data synthesize`: what it prints. The work is in compress.data.synthesize."""

from __future__ import annotations

from pathlib import Path

from edgeai.console import print_json, print_table


def speech(
    words: str,
    out: Path,
    *,
    unknown: str,
    voices: int,
    per_word: int,
    seed: int,
    language: str,
    sample_rate_hz: int,
    json_output: bool,
) -> int:
    """Speak words and say what came of it. Raises what synthesize_speech raises."""
    from compress.data.synthesize.speech import synthesize_speech

    made = synthesize_speech(
        words.split(","),
        out,
        unknown=unknown.split(","),
        voices=voices,
        per_word=per_word,
        seed=seed,
        language=language,
        sample_rate_hz=sample_rate_hz,
    )
    if json_output:
        print_json(
            {
                "out": str(made.folder),
                "labels": made.labels,
                "clips": made.clips,
                "speakers": made.speakers,
                "longest_s": round(made.longest_s, 3),
            }
        )
        return 0
    print_table(
        ["labels", "clips", "speakers", "longest word"],
        [[len(made.labels), made.clips, made.speakers, f"{made.longest_s:.2f} s"]],
        title=f"spoken into {made.folder}",
    )
    print(f"next: edgeai-compress data check {made.folder}")
    return 0
