"""A recipe's data, read and parted: what is learnt from and what is held out."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.data.detection import DetectionSet, join_sets
from compress.data.formats import load_detections
from compress.data.speech import SpeechSet, join_speech, load_sound_folders, load_speech
from compress.data.video import extract_frames
from compress.distill.teacher import TeacherDetector, label_pictures, soften
from compress.recipe import (
    BoxData,
    MachineSounds,
    PictureFolders,
    Recipe,
    SoundFolders,
    SpeechData,
    SpokenWords,
    VideoData,
)
from edgeai.bundle.manifest import LogMelInput
from edgeai.errors import RecipeError
from edgeai.stages.audio.logmel import samples_for

if TYPE_CHECKING:
    from compress.data.classified import PictureSet

# a teacher's score that counts as certain; halfway to 1 where the recipe's min_score is above it
CERTAIN_SCORE = 0.6


def load_boxes(recipe: Recipe, data_root: Path, work: Path) -> tuple[DetectionSet, DetectionSet]:
    """Pictures with boxes, for training and held out; frames of videos are written below `work`.

    Of a video its last part is held out, for frames beside each other are nearly the same picture.
    """
    training: list[DetectionSet] = []
    held: list[DetectionSet] = []
    for number, source in enumerate(recipe.data.train):
        if isinstance(source, BoxData):
            pictures = load_detections(source.kind, data_root / source.folder, source.split, recipe.labels)
            parts = pictures.split(recipe.data.validation)
        elif isinstance(source, VideoData):
            folder = work / "frames" / f"{number}-{Path(source.file).stem}"
            parts = _label_video(recipe, source, data_root, folder).split_in_order(recipe.data.validation)
        else:
            raise _misfit(recipe, source.kind, "boxes")
        training.append(parts[0])
        held.append(parts[1])
    return join_sets(training), join_sets(held)


def load_classified(recipe: Recipe, data_root: Path) -> tuple[PictureSet, PictureSet]:
    """Pictures of one class each, for training and held out."""
    from compress.data.classified import join_pictures
    from compress.data.formats.folders import load_picture_folders

    sets = []
    for source in recipe.data.train:
        if not isinstance(source, PictureFolders):
            raise _misfit(recipe, source.kind, "classified pictures")
        sets.append(load_picture_folders(data_root / source.folder, source.split, recipe.labels))
    return join_pictures(sets).split(recipe.data.validation)


def load_clips(recipe: Recipe, data_root: Path, work: Path, *, labels: tuple[str, ...] | None) -> SpeechSet:
    """Every clip of the recipe; what is spoken or made for it is written below `work`.

    labels: None for those that occur, which differ from the recipe's where it spells.
    """
    spec = recipe.input
    if not isinstance(spec, LogMelInput):
        raise RecipeError(f"recipe {recipe.name}: sounds need an input of kind 'logmel'")
    samples, rate = samples_for(spec.frames, spec), spec.sample_rate_hz
    sets = []
    for number, source in enumerate(recipe.data.train):
        if isinstance(source, SpeechData):
            clips = load_speech(
                data_root / source.folder,
                source.split,
                labels,
                samples=samples,
                sample_rate_hz=rate,
                column=source.column,
                called=source.called,
                leave_out=source.leave_out,
            )
        elif isinstance(source, SpokenWords):
            folder = _spoken(source, work / "spoken", seed=recipe.seed + number, sample_rate_hz=rate)
            clips = load_speech(
                folder, "train", labels, samples=samples, sample_rate_hz=rate, called=source.words
            )
        elif isinstance(source, MachineSounds):
            folder = _made_folder(source, work / "machine", recipe.seed + number, rate)
            if not folder.is_dir():
                source.make(folder, data_root, seed=recipe.seed + number, sample_rate_hz=rate)
            clips = load_speech(folder, "train", labels, samples=samples, sample_rate_hz=rate)
        elif isinstance(source, SoundFolders):
            clips = load_sound_folders(
                data_root / source.folder, source.split, labels, samples=samples, sample_rate_hz=rate
            )
        else:
            raise _misfit(recipe, source.kind, "sounds")
        sets.append(clips)
    if labels is None:  # each folder may know other words
        known = tuple(sorted({label for clips in sets for label in clips.labels}))
        sets = [relabelled(clips, known) for clips in sets]
    return replace(join_speech(sets), window=recipe.data.window)


def _spoken(source: SpokenWords, work: Path, *, seed: int, sample_rate_hz: int) -> Path:
    """The folder of the spoken words, made unless an earlier run of the recipe made it."""
    from compress.data.synthesize.speech import synthesize_speech

    folder = _made_folder(source, work, seed, sample_rate_hz)
    if not folder.is_dir():
        synthesize_speech(
            list(source.words),
            folder,
            voices=source.voices,
            per_word=source.per_word,
            seed=seed,
            language=source.language,
            sample_rate_hz=sample_rate_hz,
        )
    return folder


def _made_folder(source: SpokenWords | MachineSounds, work: Path, seed: int, sample_rate_hz: int) -> Path:
    """Another one whenever anything that it is made from changes."""
    work.mkdir(parents=True, exist_ok=True)
    asked = f"{source.model_dump_json()} {seed} {sample_rate_hz}"
    return work / f"{zlib.crc32(asked.encode()):08x}"


def relabelled(clips: SpeechSet, labels: tuple[str, ...]) -> SpeechSet:
    """The same clips, their classes counted through `labels`, which hold all of theirs."""
    ids = np.array([labels.index(label) for label in clips.labels], np.int32)[clips.class_ids]
    return replace(clips, labels=labels, class_ids=ids)


def load_unlabelled(
    recipe: Recipe, data_root: Path, work: Path, *, measured_on: Collection[Path] = ()
) -> tuple[Path, ...]:
    """Every picture that the recipe names without labels, but for those in `measured_on`; frames of videos are written
    below `work`.
    """
    paths: list[Path] = []
    for number, source in enumerate(recipe.data.unlabelled):
        if source.folder is not None:
            from compress.data.unlabelled import find_pictures

            paths += find_pictures(data_root / source.folder, leave_out=measured_on)
        else:
            video = data_root / str(source.file)
            folder = work / "frames" / f"unlabelled-{number}-{video.stem}"
            paths += extract_frames(video, folder, start=source.start, stop=source.stop, every=source.every)
    return tuple(paths)


def _label_video(recipe: Recipe, source: VideoData, data_root: Path, folder: Path) -> DetectionSet:
    if recipe.teacher is None:
        raise RecipeError(f"recipe {recipe.name}: videos have no labels, a [teacher] is needed")
    threads = os.cpu_count() or 1
    with TeacherDetector(recipe.teacher, recipe.labels, data_root=data_root, threads=threads) as teacher:
        paths = extract_frames(
            data_root / source.file, folder, start=source.start, stop=source.stop, every=source.every
        )
        labelled = label_pictures(paths, folder, teacher=teacher, labels=recipe.labels)
    floor = recipe.teacher.min_score
    certain = CERTAIN_SCORE if floor < CERTAIN_SCORE else (1 + floor) / 2
    return soften(labelled, floor=floor, full=certain)


def _misfit(recipe: Recipe, kind: str, what: str) -> RecipeError:
    return RecipeError(f"recipe {recipe.name}: data of kind {kind!r} holds no {what}")
