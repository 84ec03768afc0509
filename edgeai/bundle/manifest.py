"""manifest.json, schema 1: everything a device needs to run a model, and where the model came from."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 512 << 20

# detect, keyword: what edgeai runs; the others are trained and measured, and run by whoever opens their engine
Task = Literal["detect", "keyword", "classify", "transcribe", "anomaly"]
FileFormat = Literal["tflite", "onnx", "plan"]
# int4: weights of four bits, int8 activations; int16x8: int16 activations, int8 weights
Precision = Literal["float32", "float16", "dynamic", "int8", "int4", "int16x8"]


class Settings(BaseModel):
    """Frozen, validated once, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(Settings):
    """One file of the bundle. `format` and `precision` are set for engine files only.

    tolerance: the largest absolute difference to the golden outputs allowed to this engine file, as a fraction of
    each golden output's range (max - min); above 1 where an output hardly moves on the golden input.
    """

    path: str
    bytes: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    format: FileFormat | None = None
    precision: Precision | None = None
    tolerance: Annotated[float, Field(ge=0, le=2)] = 0.02

    @model_validator(mode="after")
    def _engine_says_both(self) -> FileEntry:
        if (self.format is None) != (self.precision is None):
            raise ValueError("an engine file needs both format and precision")
        return self

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts or "\0" in path:
            raise ValueError(f"path {path!r} leaves the bundle")
        if str(pure) != path or path == MANIFEST_NAME:
            raise ValueError(
                f"path {path!r} must be plain (no './', '//', trailing '/') and not {MANIFEST_NAME}"
            )
        return path


class ImageInput(Settings):
    """How a frame becomes the model's picture: letterbox to width x height, then (pixel - mean) / std per channel.

    layout and shape are those of the engine's tensor; colour is the channel order that the model was trained on.
    The letterbox puts the picture at the top left (`anchor` "corner", as YOLOX does) or in the middle.
    """

    kind: Literal["image"] = "image"
    name: str = "image"
    width: Annotated[int, Field(ge=8, le=8192)]
    height: Annotated[int, Field(ge=8, le=8192)]
    colour: Literal["BGR", "RGB"] = "BGR"
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    resize: Literal["letterbox", "stretch"] = "letterbox"
    anchor: Literal["corner", "centre"] = "corner"
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @field_validator("std")
    @classmethod
    def _std_divides(cls, std: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(std) <= 0:
            raise ValueError("std must be above 0 in every channel")
        return std


class LogMelInput(Settings):
    """The streaming log-mel front end of a speech model (edgeai.stages.audio.logmel).

    The model sees `frames` successive feature vectors of `mels` bands, shape (1, frames, mels, 1) or
    (1, frames, mels) as the engine's tensor has it. Features are ln(mel energy + floor), then scaled to
    (feature - offset) / scale and clipped to -1..1.
    """

    kind: Literal["logmel"] = "logmel"
    name: str = "features"
    sample_rate_hz: Annotated[int, Field(ge=8000, le=48000)] = 16000
    window_samples: Annotated[int, Field(ge=16, le=8192)] = 480
    hop_samples: Annotated[int, Field(ge=8, le=8192)] = 320
    fft_size: Annotated[int, Field(ge=16, le=16384)] = 512
    mels: Annotated[int, Field(ge=4, le=256)] = 40
    low_hz: Annotated[float, Field(ge=0)] = 60.0
    high_hz: Annotated[float, Field(gt=0)] = 7600.0
    floor: Annotated[float, Field(gt=0)] = 1e-6
    offset: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0
    frames: Annotated[int, Field(ge=1, le=1000)] = 49

    @model_validator(mode="after")
    def _window_fits(self) -> LogMelInput:
        if self.window_samples > self.fft_size:
            raise ValueError("window_samples must not exceed fft_size")
        if self.hop_samples > self.window_samples:
            raise ValueError("hop_samples must not exceed window_samples")
        if not self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ValueError("low_hz < high_hz <= sample_rate_hz / 2 must hold")
        return self


class Decoder(Settings):
    """The decoder's name in edgeai.stages.decoders and its parameters, checked by the decoder itself."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Measured(Settings):
    """One measured figure, with where and when."""

    metric: str
    value: float
    ci95: tuple[float, float] | None = None
    n: int = 0
    file: str = ""
    data: str = ""
    device: str = ""
    date: str = ""


class Manifest(Settings):
    """The whole of manifest.json."""

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    version: str = "1.0.0"
    task: Task
    input: Annotated[ImageInput | LogMelInput, Field(discriminator="kind")]
    decoder: Decoder
    labels: tuple[str, ...]
    files: tuple[FileEntry, ...]
    golden: str | None = None
    licence: str = ""
    attribution: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    measured: tuple[Measured, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
            raise ValueError("name must be lower case letters, digits, '.', '_' or '-', at most 64")
        return name

    @model_validator(mode="after")
    def _parts_fit(self) -> Manifest:
        paths = [entry.path for entry in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file is listed twice")
        if not any(entry.format for entry in self.files):
            raise ValueError("no engine file is listed")
        if self.golden is not None and self.golden not in paths:
            raise ValueError("the golden file is not among the files")
        wanted = "image" if self.task in ("detect", "classify") else "logmel"
        if self.input.kind != wanted:
            raise ValueError(f"task {self.task!r} needs an input of kind {wanted!r}")
        return self

    @property
    def engine_files(self) -> tuple[FileEntry, ...]:
        return tuple(entry for entry in self.files if entry.format is not None)
