"""Recipes: TOML files that say how a model is made, pass by pass. Read and checked whole before any work starts."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from compress.train.fit import FitSettings
from compress.train.picture_augment import PictureAugment
from compress.train.sound_augment import SoundAugment
from edgeai.bundle.manifest import Decoder, ImageInput, LogMelInput, Settings
from edgeai.errors import RecipeError

MAX_RECIPE_BYTES = 1 << 20


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


class SpeechData(Settings):
    """A folder with `<split>.csv` and its clips, below the data root."""

    kind: Literal["speech"]
    folder: str
    split: str = "train"


class Data(Settings):
    """train: what is learnt from. validation: the fraction of it that is held out to measure each pass on.

    noises: a folder of background recordings for augmentation. Test data has no place in a recipe.
    """

    train: tuple[Annotated[CocoData | VideoData | SpeechData, Field(discriminator="kind")], ...]
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    noises: str | None = None
    pictures: PictureAugment = PictureAugment()
    sounds: SoundAugment = SoundAugment()


class Teacher(Settings):
    """A trained model as a black box: a bundle's folder, or an ONNX or TFLite file with its contract.

    labels: what its classes mean, a text file with one name a line beside `file`'s root, or a list. Pictures are seen at
    scales and flips of `views` and the boxes merged. min_score: fainter boxes are left out of the labels.
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


class Network(Settings):
    """The architecture's name in compress.networks and its parameters; init: a file to start from, where it takes one."""

    kind: str
    init: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)


class Budget(Settings):
    """What the result must keep. max_drop: of the metric on the validation part, against the trained network."""

    max_drop: Annotated[float, Field(ge=0, le=1)] = 1.0
    max_bytes: int | None = None
    max_latency_ms: float | None = None


class TrainPass(Settings):
    """Train on labels; with teacher_share > 0 also on the untouched initial network's outputs, cell by cell."""

    kind: Literal["train"]
    fit: FitSettings
    teacher_share: Annotated[float, Field(ge=0, le=1)] = 0.0


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
    teacher_share: Annotated[float, Field(ge=0, le=1)] = 0.5


class DistillPass(Settings):
    """Fit against the outputs of the network as it was before the first pruning."""

    kind: Literal["distill"]
    fit: FitSettings
    teacher_share: Annotated[float, Field(ge=0, le=1)] = 0.7


class QuantizePass(Settings):
    """Post-training quantization to TFLite; calibration: how many training inputs set the ranges of int8."""

    kind: Literal["quantize"]
    precision: Literal["int8", "float16", "dynamic"] = "int8"
    calibration: Annotated[int, Field(ge=1)] = 200


class ExportPass(Settings):
    """Further engine files of the network as it stands."""

    kind: Literal["export"]
    formats: tuple[Literal["onnx/float32", "tflite/float16", "tflite/float32"], ...] = ("onnx/float32",)


AnyPass = Annotated[
    TrainPass | PrunePass | DistillPass | QuantizePass | ExportPass, Field(discriminator="kind")
]


class Recipe(Settings):
    """The whole of a recipe file."""

    name: str
    version: str = "1.0.0"
    task: Literal["detect", "keyword"]
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    seed: int = 1
    licence: str = "Apache-2.0"
    attribution: tuple[str, ...] = ()
    data: Data
    input: Annotated[ImageInput | LogMelInput, Field(discriminator="kind")]
    teacher: Teacher | None = None
    network: Network
    decoder: Decoder
    budget: Budget = Budget()
    passes: Annotated[tuple[AnyPass, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _passes_follow(self) -> Recipe:
        kinds = [p.kind for p in self.passes]
        if kinds[0] != "train":
            raise ValueError(
                f"the first pass must be train, not {kinds[0]}: there is no trained network before it"
            )
        if "quantize" not in kinds and "export" not in kinds:
            raise ValueError("no pass writes an engine file: end with quantize or export")
        done = False
        for kind in kinds:
            if done and kind not in ("quantize", "export"):
                raise ValueError(
                    f"{kind} after quantize or export: engine files would be of an older network"
                )
            done = done or kind in ("quantize", "export")
        speech = self.task == "keyword"
        for source in self.data.train:
            if (source.kind == "speech") != speech:
                raise ValueError(f"data of kind {source.kind!r} does not fit task {self.task!r}")
        if any(s.kind == "video" for s in self.data.train) and self.teacher is None:
            raise ValueError("videos have no labels: a [teacher] is needed")
        if (self.input.kind == "logmel") != speech:
            raise ValueError(f"input of kind {self.input.kind!r} does not fit task {self.task!r}")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError with the file, the key, what is wrong and the nearest known key."""
    if not path.is_file():
        raise RecipeError(f"no recipe at {path}", next_step="the zoo's are models/*/recipe.toml")
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path} is larger than {MAX_RECIPE_BYTES >> 20} MiB; that is no recipe")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no TOML: {error}") from error
    return parse_recipe(content, where=str(path))


def parse_recipe(content: dict[str, Any], *, where: str) -> Recipe:
    """A recipe out of parsed TOML. Raises RecipeError."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_one_line(error)}") from error


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the recipe"
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        near = difflib.get_close_matches(key, _known_keys(), n=1)
        return f"unknown key {place!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def _known_keys() -> set[str]:
    models = (
        Recipe,
        Data,
        CocoData,
        VideoData,
        SpeechData,
        Teacher,
        Network,
        Budget,
        TrainPass,
        PrunePass,
        DistillPass,
    )
    more = (
        QuantizePass,
        ExportPass,
        FitSettings,
        PictureAugment,
        SoundAugment,
        ImageInput,
        LogMelInput,
        Decoder,
    )
    return {key for model in models + more for key in model.model_fields}
