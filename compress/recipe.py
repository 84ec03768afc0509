"""Recipes: TOML files that say how a model is made, pass by pass. Read and checked whole before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from compress.train.fit import FitSettings
from compress.train.picture_augment import PictureAugment
from compress.train.sound_augment import SoundAugment
from edgeai.bundle.manifest import Decoder, ImageInput, LogMelInput, Settings
from edgeai.errors import RecipeError
from edgeai.faults import describe_fault
from edgeai.settings_file import load_settings

# what write_bundle takes as a bundle's name
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Fraction = Annotated[float, Field(ge=0, le=1)]


class CocoData(Settings):
    """A folder of pictures with COCO labels, below the data root."""

    kind: Literal["coco"]
    folder: str
    split: str = "train"


class VideoData(Settings):
    """The fraction [start, stop) of a video, every `every`-th frame, labelled by the recipe's teacher."""

    kind: Literal["video"]
    file: str
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stop: Annotated[float, Field(gt=0, le=1)] = 0.5
    every: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _some_of_it(self) -> VideoData:
        if not self.start < self.stop:
            raise ValueError(f"start {self.start} must be before stop {self.stop}")
        return self


class SpeechData(Settings):
    """A folder with `<split>.csv` and its clips, below the data root."""

    kind: Literal["speech"]
    folder: str
    split: str = "train"


class Data(Settings):
    """train: what is learnt from. validation: the fraction of it that is held out to measure each pass on.

    noises: a folder of background recordings for augmentation. Test data has no place in a recipe.
    """

    train: Annotated[
        tuple[Annotated[CocoData | VideoData | SpeechData, Field(discriminator="kind")], ...],
        Field(min_length=1),
    ]
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    noises: str | None = None
    pictures: PictureAugment = PictureAugment()
    sounds: SoundAugment = SoundAugment()


class Teacher(Settings):
    """A trained detector as a black box: a bundle's folder or zoo name, or an ONNX or TFLite file below the data root.

    A file needs its input contract and decoder (`keep_classes` picks the classes that the recipe's labels stand for).
    min_score: fainter boxes are left out of the labels. flip: look at each picture mirrored too, and merge the boxes.
    """

    bundle: str | None = None
    file: str | None = None
    input: ImageInput | None = None
    decoder: Decoder | None = None
    min_score: Annotated[float, Field(gt=0, lt=1)] = 0.3
    flip: bool = True

    @model_validator(mode="after")
    def _one_of(self) -> Teacher:
        if (self.bundle is None) == (self.file is None):
            raise ValueError("give either bundle or file")
        if self.file is not None and (self.input is None or self.decoder is None):
            raise ValueError("a teacher file needs its input and decoder")
        return self


class SpeechTeacherSettings(Settings):
    """A keyword model of MLPerf Tiny as a black box; share: how much of each training target is its word."""

    file: str
    share: Annotated[float, Field(gt=0, le=1)] = 0.5


class Network(Settings):
    """The architecture's name in compress.networks and its parameters.

    init: a file below the data root to start from, where the architecture takes one; only then may a recipe begin with
    another pass than train.
    """

    kind: str
    init: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class Budget(Settings):
    """What the result must keep; a pass that does not is undone.

    max_drop: of the metric on the validation part, against the first pass (or the network as it was loaded).
    max_bytes, max_latency_ms: of the int8 engine file, on the machine that runs the recipe, one thread.
    """

    max_drop: Fraction = 1.0
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None


class TrainPass(Settings):
    """Train on labels; with teacher_share > 0 also on what the network said before this pass, output by output."""

    kind: Literal["train"]
    fit: FitSettings
    teacher_share: Fraction = 0.0


class PrunePass(Settings):
    """Remove channels down to macs_ratio in `rounds` equal steps; each is followed by a fit against the unpruned network.

    teacher_share: how much of the loss is the unpruned network's outputs, the rest being labels.
    """

    kind: Literal["prune"]
    macs_ratio: Annotated[float, Field(gt=0, lt=1)]
    rounds: Annotated[int, Field(ge=1, le=20)] = 2
    round_to: Annotated[int, Field(ge=1)] = 8
    max_removed: Annotated[float, Field(gt=0, lt=1)] = 0.75
    fit: FitSettings
    teacher_share: Fraction = 0.5


class DistillPass(Settings):
    """Fit against the outputs of the network as it was before the first pruning."""

    kind: Literal["distill"]
    fit: FitSettings
    teacher_share: Fraction = 0.7


class QuantizePass(Settings):
    """Post-training quantization to TFLite; calibration: how many training inputs set the ranges of int8."""

    kind: Literal["quantize"]
    precision: Literal["int8", "float16", "dynamic"] = "int8"
    calibration: Annotated[int, Field(ge=1)] = 200


class ExportPass(Settings):
    """Further engine files of the network as it stands."""

    kind: Literal["export"]
    formats: Annotated[
        tuple[Literal["onnx/float32", "tflite/float16", "tflite/float32"], ...], Field(min_length=1)
    ] = ("onnx/float32",)


AnyPass = Annotated[
    TrainPass | PrunePass | DistillPass | QuantizePass | ExportPass, Field(discriminator="kind")
]


class Recipe(Settings):
    """The whole of a recipe file. seed: of initial weights, batches and calibration pictures."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: str = "1.0.0"
    task: Literal["detect", "keyword"]
    labels: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 1
    licence: str = "Apache-2.0"
    attribution: tuple[str, ...] = ()
    data: Data
    input: Annotated[ImageInput | LogMelInput, Field(discriminator="kind")]
    teacher: Teacher | None = None
    speech_teacher: SpeechTeacherSettings | None = None
    network: Network
    decoder: Decoder
    budget: Budget = Budget()
    passes: Annotated[tuple[AnyPass, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _passes_follow(self) -> Recipe:
        kinds = [settings.kind for settings in self.passes]
        if kinds[0] != "train" and self.network.init is None:
            raise ValueError(
                f"the first pass must be train, not {kinds[0]}: there is no trained network before it (network.init)"
            )
        done = pruned = False
        for kind in kinds:
            if done and kind not in ("quantize", "export"):
                raise ValueError(
                    f"{kind} after quantize or export: engine files would be of an older network"
                )
            if kind == "distill" and not pruned:
                raise ValueError("distill needs a prune before it: it learns from the network as it was then")
            done = done or kind in ("quantize", "export")
            pruned = pruned or kind == "prune"
        if not done:
            raise ValueError("no pass writes an engine file: end with quantize or export")
        return self

    @model_validator(mode="after")
    def _files_differ(self) -> Recipe:
        files: list[str] = []
        for settings in self.passes:
            if isinstance(settings, QuantizePass):
                files.append(f"tflite/{settings.precision}")
            elif isinstance(settings, ExportPass):
                files.extend(settings.formats)
        twice = next((file for file in files if files.count(file) > 1), None)
        if twice is not None:
            raise ValueError(f"two passes write {twice}")
        return self

    @model_validator(mode="after")
    def _data_fits_task(self) -> Recipe:
        speech = self.task == "keyword"
        for source in self.data.train:
            if (source.kind == "speech") != speech:
                raise ValueError(f"data of kind {source.kind!r} does not fit task {self.task!r}")
        if speech and len(self.data.train) > 1:
            raise ValueError("one speech folder is expected in data.train")
        if any(source.kind == "video" for source in self.data.train) and self.teacher is None:
            raise ValueError("videos have no labels: a [teacher] is needed")
        if (self.input.kind == "logmel") != speech:
            raise ValueError(f"input of kind {self.input.kind!r} does not fit task {self.task!r}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is given twice")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError with the file, the line, the key, what is wrong and the nearest known key."""
    return load_settings(
        path, Recipe, error=RecipeError, what="recipe", next_step="the zoo's are models/*/recipe.toml"
    )


def parse_recipe(content: dict[str, Any], *, where: str) -> Recipe:
    """A recipe out of parsed TOML. Raises RecipeError."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        fault = describe_fault(error.errors(include_url=False)[0], Recipe)
        raise RecipeError(f"{where}: {fault.text}") from None
