"""`edgeai-compress data synthesize`: what it prints. The work is in compress.data.synthesize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.console import print_json, print_note, print_table
from edgeai.errors import UsageError

if TYPE_CHECKING:
    from compress.data.synthesize.crops import Likeness
    from compress.data.synthesize.pictures import Method


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


def machine(
    out: Path, *, clips: int, faulty: int, noises: Path | None, seed: int, split: str, json_output: bool
) -> int:
    """Make a machine's sounds and say what came of it. Raises what synthesize_machine raises."""
    from compress.data.synthesize.machine import synthesize_machine

    made = synthesize_machine(out, clips=clips, faulty=faulty, noises=noises, seed=seed, split=split)
    if json_output:
        print_json({"out": str(made.folder), "clips": made.clips})
        return 0
    print_table(
        ["label", "clips"], [[label, n] for label, n in made.clips.items()], title=f"made {made.folder}"
    )
    print(f"next: edgeai-compress data check {made.folder}")
    return 0


def method_of(name: str) -> Method:
    """Raise UsageError for a method that is not known."""
    from compress.data.synthesize.pictures import METHODS

    found = next((method for method in METHODS if method == name), None)
    if found is None:
        raise UsageError(f"--method must be one of {', '.join(METHODS)}, got {name!r}")
    return found


def pictures(
    folder: Path,
    out: Path | None,
    *,
    label: str,
    split: str,
    count: int,
    steps: int | None,
    seed: int,
    method: Method,
    trial: bool,
    trial_steps: int,
    keep: int,
    json_output: bool,
) -> int:
    """Make pictures, or try what they are worth. Raises what synthesize_pictures and try_pictures raise."""
    from compress.data.synthesize.pictures import STEPS, synthesize_pictures
    from compress.quiet import start_tensorflow

    if trial:
        if out is not None:
            raise UsageError("--try makes no folder", next_step="leave out --out or --try")
        start_tensorflow()
        return _trial(folder, label, split, count, steps or STEPS, seed, trial_steps, keep, json_output)
    if out is None:
        raise UsageError(
            "no place for the pictures", next_step="name it with --out, or see with --try what they do"
        )
    if method == "gan":
        start_tensorflow()
    made = synthesize_pictures(
        folder, label, out, split=split, count=count, steps=steps or STEPS, seed=seed, method=method
    )
    if json_output:
        print_json(
            {
                "out": str(made.folder),
                "label": label,
                "method": method,
                "crops": made.crops,
                "pictures": made.pictures,
                "likeness": _likeness_json(made.likeness),
            }
        )
        return 0
    print_table(
        ["label", "real crops", "pictures"], [[label, made.crops, made.pictures]], title=f"made {made.folder}"
    )
    _tell_likeness(made.likeness)
    print(f"look at {made.folder / 'contact_sheet.png'}: real crops above, made ones below")
    return 0


def _trial(
    folder: Path,
    label: str,
    split: str,
    count: int,
    generator_steps: int,
    seed: int,
    steps: int,
    keep: int,
    json_output: bool,
) -> int:
    from compress.data.synthesize.trial import try_pictures

    done = try_pictures(
        folder,
        label,
        split=split,
        keep=keep,
        count=count,
        generator_steps=generator_steps,
        steps=steps,
        seed=seed,
    )
    if json_output:
        arms = {
            arm.name: {
                "ap50": round(arm.ap50, 4),
                "ci95": [round(v, 4) for v in arm.ap50_ci95],
                "gain": round(arm.gain.value, 4),
                "gain_ci95": [round(v, 4) for v in arm.gain.ci95],
                "copy_gain": round(arm.copy_gain.value, 4),
                "copy_gain_ci95": [round(v, 4) for v in arm.copy_gain.ci95],
                "by_seed": [round(v, 4) for v in arm.by_seed],
            }
            for arm in done.arms
        }
        print_json(
            {
                "label": label,
                "kept": done.kept,
                "held_out": done.held_out,
                "boxes": done.boxes,
                "arms": arms,
                "likeness": _likeness_json(done.likeness),
                "verdict": done.verdict,
            }
        )
        return 0
    rows = [
        [
            arm.name,
            f"{arm.ap50:.3f}",
            f"{arm.ap50_ci95[0]:.3f} to {arm.ap50_ci95[1]:.3f}",
            "" if arm.name == "plain" else str(arm.gain),
        ]
        for arm in done.arms
    ]
    print_table(
        ["learnt from", "AP50", "95 %", "gain (95 %)"],
        rows,
        title=f"{done.kept} boxes of {label}; {done.boxes} to find in {done.held_out} held-out pictures",
    )
    _tell_likeness(done.likeness)
    print(done.verdict)
    return 0


def _likeness_json(likeness: Likeness | None) -> dict[str, object] | None:
    if likeness is None:
        return None
    return {
        "drawn": round(likeness.drawn, 2),
        "variety": round(likeness.variety, 3),
        "novelty": round(likeness.novelty, 3),
        "faults": likeness.faults,
    }


def _tell_likeness(likeness: Likeness | None) -> None:
    if likeness is None:
        return
    print(
        f"drawn {likeness.drawn:.1f} grey levels, variety {likeness.variety:.2f} (0: always the same), "
        f"novelty {likeness.novelty:.2f} (0: repeats real ones, 1: as far apart as they are)"
    )
    for fault in likeness.faults:
        print_note(fault)
