"""The keyword teacher hears what its authors say it hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.compress, pytest.mark.data]

LABELS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "unknown", "silence")


def test_teacher_is_mostly_right_on_training_clips(shared_data: Path) -> None:
    from compress.data.speech import load_speech
    from compress.distill.speech_teacher import SpeechTeacher

    clips = load_speech(shared_data / "speech_commands", "train", LABELS, samples=16000)
    teacher = SpeechTeacher(shared_data / "models/mlperf_tiny/kws_ref_model_float32.tflite", LABELS)
    picks = np.random.default_rng(0).permutation(len(clips))[:192]
    said = np.concatenate([teacher(clips.clips(picks[i : i + 64])) for i in range(0, 192, 64)])
    assert np.allclose(said.sum(axis=1), 1, atol=1e-3)
    # 90.8 % on the test split by its README
    assert (said.argmax(axis=1) == clips.class_ids[picks]).mean() > 0.85


def test_wrong_labels_and_files_are_told(shared_data: Path, tmp_path: Path) -> None:
    from compress.distill.speech_teacher import SpeechTeacher
    from edgeai.errors import DataMissingError, RecipeError

    with pytest.raises(DataMissingError, match="no teacher"):
        SpeechTeacher(tmp_path / "none.tflite", LABELS)
    path = shared_data / "models/mlperf_tiny/kws_ref_model_float32.tflite"
    with pytest.raises(RecipeError, match="banana"):
        SpeechTeacher(path, ("banana",))
    with pytest.raises(RecipeError, match="16000 samples"):
        SpeechTeacher(path, LABELS)(np.zeros((2, 8000), np.float32))
