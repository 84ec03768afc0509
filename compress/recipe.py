"""Recipes: TOML files that say how a model is made, pass by pass. Read and checked whole before any work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from compress.data.synthesize.machine import MachineSettings
from compress.passes.settings import AnyPass, DistillPass, check_order
from compress.train.picture_augment import PictureAugment
from compress.train.sound_augment import SoundAugment
from edgeai.bundle.manifest import Decoder, ImageInput, LogMelInput, Settings
from edgeai.errors import RecipeError
from edgeai.faults import describe_fault
from edgeai.settings_file import load_settings

# what write_bundle takes as a bundle's name
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Fraction = Annotated[float, Field(ge=0, le=1)]


class BoxData(Settings):
    """A folder of pictures with labelled boxes, below the data root; kind is the labels' format."""

    kind: Literal["coco", "voc", "yolo", "label-studio", "cvat"]
    folder: str
    split: str = "train"


class PictureFolders(Settings):
    """Pictures in a folder for each label, below `folder`/`split` (or `folder` itself)."""

    kind: Literal["picture-folders"]
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
    """A folder with `<split>.csv` and its clips, below the data root.

    column: the list's column that says what is heard, where it has several. called: what the recipe calls it, by the list's
    word; "*" stands for every word that is not named, and without it those are left out. leave_out: speakers.
    """

    kind: Literal["speech"]
    folder: str
    split: str = "train"
    column: str | None = None
    called: dict[str, str] = Field(default_factory=dict)
    leave_out: tuple[str, ...] = ()


class SpokenWords(Settings):
    """Words that espeak-ng speaks when the recipe runs. words: the label of each. voices, per_word: as of `data synthesize`."""

    kind: Literal["spoken"]
    words: Annotated[dict[str, str], Field(min_length=1)]
    voices: Annotated[int, Field(ge=1, le=1000)] = 40
    per_word: Annotated[int, Field(ge=1, le=10_000)] = 60
    language: str = "en"


class SoundFolders(Settings):
    """Clips in a folder for each label, below `folder`/`split` (or `folder` itself)."""

    kind: Literal["sound-folders"]
    folder: str
    split: str = "train"


class Unlabelled(Settings):
    """Pictures without labels, anywhere below a folder, or some frames of a video; the pass `pretrain` looks at them."""

    folder: str | None = None
    file: str | None = None
    start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    stop: Annotated[float, Field(gt=0, le=1)] = 0.5
    every: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _one_of(self) -> Unlabelled:
        if (self.folder is None) == (self.file is None):
            raise ValueError("give either folder (pictures) or file (a video)")
        return self


class MachineSounds(MachineSettings):
    """A made-up machine, sound and faulty, heard in a part of the recordings in `noises`; made when the recipe runs, as
    `data synthesize machine` makes it.
    """

    kind: Literal["machine"]


AnyData = Annotated[
    BoxData | VideoData | PictureFolders | SpeechData | SpokenWords | SoundFolders | MachineSounds,
    Field(discriminator="kind"),
]
# which kinds of data a task learns from, and of which input
TASK_DATA: dict[str, tuple[str, tuple[str, ...]]] = {
    "detect": ("image", ("coco", "voc", "yolo", "label-studio", "cvat", "video")),
    "classify": ("image", ("picture-folders",)),
    "keyword": ("logmel", ("speech", "spoken", "sound-folders")),
    "transcribe": ("logmel", ("speech", "spoken", "sound-folders")),
    "anomaly": ("logmel", ("speech", "sound-folders", "machine")),
}


# tasks whose outputs only one decoder reads
ONLY_DECODER = {"classify": "class", "transcribe": "ctc", "anomaly": "reconstruction"}


class Data(Settings):
    """train: what is learnt from. validation: the fraction of it that is held out to measure each pass on.

    class_weights: how often examples are drawn: "none" as they are, "balanced" every class alike (pictures with boxes: rare
    classes more often), or a factor for some labels. Not given: balanced for keyword and classify, none otherwise.
    unlabelled: what `pretrain` looks at. noises: a folder of background recordings for augmentation. joined: for transcribe,
    up to so many clips of one speaker follow each other in a training window. window: which part of a clip that is longer
    than the model's window is seen, its start or its loudest part; a shorter one lies at the start, or in the middle. never_held:
    speakers that are never held out, for there are few of them. Test data has no place in a recipe.
    """

    train: Annotated[tuple[AnyData, ...], Field(min_length=1)]
    validation: Annotated[float, Field(gt=0, lt=0.5)] = 0.15
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0, le=1000)]] | None = (
        None
    )
    unlabelled: tuple[Unlabelled, ...] = ()
    noises: str | None = None
    joined: Annotated[int, Field(ge=1, le=20)] = 1
    window: Literal["start", "loudest"] = "start"
    never_held: tuple[str, ...] = ()
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

    init: what to start from, where the architecture takes one: a file below the data root, or for `bundle` a zoo model or a
    bundle's folder; only then may a recipe begin with another pass than train or pretrain. keep: how the bundle holds the
    network that somebody may go on training from: float16 is half the bytes, and as good to start from.
    """

    kind: str
    init: str | None = None
    keep: Literal["float32", "float16"] = "float32"
    params: dict[str, Any] = Field(default_factory=dict)


class Budget(Settings):
    """What the result must keep; a pass that does not is undone.

    max_drop: of the metric on the validation part, against the first pass (or the network as it was loaded).
    retries: how often a pass that lost too much is tried again, asking for half of it, before it is undone.
    max_bytes, max_latency_ms: of the int8 engine file, on the machine that runs the recipe, one thread.
    """

    max_drop: Fraction = 1.0
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None


class Recipe(Settings):
    """The whole of a recipe file. seed: of initial weights, batches and calibration pictures."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: str = "1.0.0"
    task: Literal["detect", "classify", "keyword", "transcribe", "anomaly"]
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
        if self.passes[0].kind == "pretrain" and not self.data.unlabelled:
            raise ValueError("pretrain needs pictures to look at: data.unlabelled")
        if any(isinstance(p, DistillPass) and p.unlabelled for p in self.passes) and not self.data.unlabelled:
            raise ValueError("distill with unlabelled examples needs some: data.unlabelled")
        check_order(self.passes, trained=self.network.init is not None)
        return self

    @model_validator(mode="after")
    def _files_differ(self) -> Recipe:
        files = [file for settings in self.passes for file in settings.writes]
        twice = next((file for file in files if files.count(file) > 1), None)
        if twice is not None:
            raise ValueError(f"two passes write {twice}")
        return self

    @model_validator(mode="after")
    def _data_fits_task(self) -> Recipe:
        wanted_input, kinds = TASK_DATA[self.task]
        for source in self.data.train:
            if source.kind not in kinds:
                raise ValueError(
                    f"data of kind {source.kind!r} does not fit task {self.task!r}, which takes {', '.join(kinds)}"
                )
        if any(source.kind == "video" for source in self.data.train) and self.teacher is None:
            raise ValueError("videos have no labels: a [teacher] is needed")
        if self.input.kind != wanted_input:
            raise ValueError(f"input of kind {self.input.kind!r} does not fit task {self.task!r}")
        if self.task in ONLY_DECODER and self.decoder.name != ONLY_DECODER[self.task]:
            raise ValueError(f"task {self.task!r} needs the decoder {ONLY_DECODER[self.task]!r}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label is given twice")
        if isinstance(self.data.class_weights, dict):
            unknown = [label for label in self.data.class_weights if label not in self.labels]
            if unknown:
                raise ValueError(f"data.class_weights: {unknown[0]!r} is no label of the recipe")
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
