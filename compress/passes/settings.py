"""What a recipe says of each pass: its settings, what it needs to find, what it leaves, and how to ask for less.

Facts about a candidate: "trained" weights; a "reference" network from before a pruning; an "engine" file is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from compress.distill.data_free import DataFreeSettings
from compress.distill.losses import DistillLoss
from compress.prune.choice import Scope
from compress.prune.compensate import Compensation
from compress.prune.magnitude import MaskScope
from compress.prune.scores import ScoreKind
from compress.prune.target import PruneSettings, Target
from compress.quantize.settings import CalibrationRule, PostTraining, RangeTraining
from compress.train.fit import FitSettings
from compress.train.pretrain import PretrainSettings
from edgeai.bundle.manifest import Settings

Fact = Literal["trained", "reference", "engine"]
UNTRAINED = "the first pass must be train, not {kind}: there is no trained network before it (network.init)"
NO_REFERENCE = (
    "{kind} needs a prune before it, or a teacher: it learns from the network as it was before pruning"
)
Fraction = Annotated[float, Field(ge=0, le=1)]
Below1 = Annotated[float, Field(gt=0, lt=1)]
TARGETS = tuple(Target.model_fields)


class PassSettings(Settings):
    """needs: facts that must hold before the pass, and what to say where one does not. gives: facts that hold after it."""

    needs: ClassVar[Mapping[Fact, str]] = {}
    needs_without_teacher: ClassVar[Mapping[Fact, str]] = {}
    gives: ClassVar[frozenset[Fact]] = frozenset()
    changes_network: ClassVar[bool] = True
    kind: str

    @property
    def needs_reference(self) -> bool:
        """Whether it learns from the network as it was before pruning."""
        return bool(self.needs_without_teacher) and getattr(self, "teacher", None) is None

    @property
    def fits(self) -> tuple[FitSettings, ...]:
        """The trainings of the pass, one after the other."""
        fit = getattr(self, "fit", None)
        return (fit,) * getattr(self, "rounds", 1) if isinstance(fit, FitSettings) else ()

    @property
    def on_whole(self) -> bool:
        """Whether its training looks at whole pictures where the recipe has windows."""
        return bool(getattr(self, "whole_pictures", False))

    @property
    def writes(self) -> tuple[str, ...]:
        """The engine files that it leaves, as "format/precision"."""
        return ()

    def softer(self) -> PassSettings | None:
        """The same pass asking for less, for when it lost too much; None where there is nothing to give way in."""
        return None


class TrainPass(PassSettings):
    """Train on labels; with teacher_share > 0 also on what the network said before this pass, output by output.

    whole_pictures: also where data.pictures.crop has windows. What lies far around an object is cut off in most windows; a
    short training on whole pictures after a long one on windows brings it in.
    """

    gives: ClassVar[frozenset[Fact]] = frozenset({"trained"})
    kind: Literal["train"]
    fit: FitSettings
    teacher_share: Fraction = 0.0
    whole_pictures: bool = False


class PretrainPass(PassSettings):
    """Train what all outputs need (the backbone) on data.unlabelled, without labels; the train pass follows."""

    kind: Literal["pretrain"]
    fit: PretrainSettings


class PrunePass(PassSettings):
    """Remove channels in `rounds` equal steps to one target; each is followed by a fit against the unpruned network.

    The target is exactly one of macs_ratio, bytes_ratio, max_bytes, latency_ratio, max_latency_ms: multiplications, or
    bytes and one-thread milliseconds of the engine file that the recipe ends with, as a ratio of before or absolute.
    score, per_cost, scope, round_to, max_removed, compensation, through_norms: as in compress.prune.target.PruneSettings. The
    defaults are those that cost a detector least (its label loss on held-out pictures, 30 % of the multiplications gone: 1.53
    before, 1.75; 1.82 without per_cost, 2.16 by L2 norms, each with the same compensation). max_rise: of the label loss,
    which bounds what any layer may lose by itself (a sensitivity scan; none where not given). looks: training batches of
    fit.batch that scores, scan and compensation look at. teacher_share: how much of the loss is the unpruned network's
    outputs, the rest being labels; loss: how it learns from them.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"reference"})
    kind: Literal["prune"]
    macs_ratio: Below1 | None = None
    bytes_ratio: Below1 | None = None
    max_bytes: Annotated[int, Field(ge=1)] | None = None
    latency_ratio: Below1 | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    score: ScoreKind = "taylor"
    per_cost: bool = True
    scope: Scope = "global"
    compensation: Compensation = "least-squares"
    through_norms: bool = False
    max_rise: Annotated[float, Field(gt=0)] | None = None
    looks: Annotated[int, Field(ge=1, le=64)] = 4
    rounds: Annotated[int, Field(ge=1, le=20)] = 2
    round_to: Annotated[int, Field(ge=1)] = 8
    max_removed: Below1 = 0.75
    fit: FitSettings
    teacher_share: Fraction = 0.5
    loss: DistillLoss = DistillLoss()

    @model_validator(mode="after")
    def _one_target(self) -> PrunePass:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            told = " and ".join(given) or "none of them"
            raise ValueError(f"prune needs exactly one of {', '.join(TARGETS)}; given is {told}")
        return self

    @property
    def target(self) -> Target:
        name = next(name for name in TARGETS if getattr(self, name) is not None)
        return Target.model_validate({name: getattr(self, name)})

    @property
    def cut(self) -> PruneSettings:
        return PruneSettings(
            score=self.score,
            per_cost=self.per_cost,
            scope=self.scope,
            compensation=self.compensation,
            through_norms=self.through_norms,
            round_to=self.round_to,
            max_removed=self.max_removed,
        )

    def softer(self) -> PrunePass | None:
        """Half the way, in the ratio's logarithm, as the rounds go; an absolute target leaves no choice."""
        target = self.target
        if not target.relative:
            return None
        return self.model_copy(update={target.name: math.sqrt(target.value)})


class SparsifyPass(PassSettings):
    """Set single weights to zero while training goes on: the smallest, ever more of them, or two of each four (2:4).

    The zeros stay through every later pass. pattern "magnitude": as compress.prune.magnitude.MagnitudeSettings, to
    `sparsity`; "2:4": for TensorRT's sparse tensor cores, sparsity is a half. Files get smaller once compressed; nothing
    gets faster but on engines that skip the pattern, and the report says which.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"reference"})
    kind: Literal["sparsify"]
    pattern: Literal["magnitude", "2:4"] = "magnitude"
    sparsity: Below1 = 0.5
    scope: MaskScope = "lamp"
    exclude: tuple[str, ...] = ()
    fit: FitSettings
    teacher_share: Fraction = 0.5
    loss: DistillLoss = DistillLoss()

    @model_validator(mode="after")
    def _half(self) -> SparsifyPass:
        if self.pattern == "2:4" and "sparsity" in self.model_fields_set and self.sparsity != 0.5:
            raise ValueError("2:4 leaves two of four: its sparsity is 0.5")
        return self

    def softer(self) -> SparsifyPass | None:
        """Half the way in the logarithm of what stays; 2:4 is all or nothing."""
        if self.pattern == "2:4":
            return None
        return self.model_copy(update={"sparsity": 1 - math.sqrt(1 - self.sparsity)})


class DistillPass(PassSettings):
    """Fit against the outputs of a teacher: the network as it was before the first pruning, or another one.

    teacher: a bundle's folder or zoo name, or a .keras, .onnx or .tflite file, below the data root or anywhere; its outputs
    must be the recipe's. loss: what is learnt from it (compress.distill.losses.DistillLoss). keep_batches: how many batches
    may be kept on disk with the teacher's answers, where that is faster than asking anew. unlabelled: examples a batch from
    data.unlabelled on top of fit.batch; they count for the teacher's loss only. whole_pictures: as in TrainPass.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    needs_without_teacher: ClassVar[Mapping[Fact, str]] = {"reference": NO_REFERENCE}
    kind: Literal["distill"]
    fit: FitSettings
    teacher: str | None = None
    teacher_share: Fraction = 0.7
    loss: DistillLoss = DistillLoss()
    keep_batches: Annotated[int, Field(ge=0)] = 0
    unlabelled: Annotated[int, Field(ge=0, le=1024)] = 0
    whole_pictures: bool = False


class DataFreePass(PassSettings):
    """Learn from a teacher without any data: a generator draws what it knows (compress.distill.data_free).

    teacher: as in distill, but a Keras network (a bundle that holds one, or a .keras file).
    """

    needs_without_teacher: ClassVar[Mapping[Fact, str]] = {"reference": NO_REFERENCE}
    gives: ClassVar[frozenset[Fact]] = frozenset({"trained"})
    kind: Literal["distill-data-free"]
    fit: DataFreeSettings = DataFreeSettings()
    teacher: str | None = None


class QuantizePass(PostTraining, PassSettings):
    """Post-training quantization to TFLite: all of PostTraining. calibration: how many training inputs set the ranges of int8,
    int4 and int16x8.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"engine"})
    changes_network: ClassVar[bool] = False
    kind: Literal["quantize"]
    calibration: Annotated[int, Field(ge=1)] = 200

    @property
    def writes(self) -> tuple[str, ...]:
        return (f"tflite/{self.precision}",)


class QatPass(PassSettings):
    """Quantization-aware training to int8 TFLite, for networks that lose too much when they are quantized after training.

    Batch norms are folded, then weights and activations are rounded while the network goes on learning: a fit at a low rate,
    a tenth of the training's steps or fewer. ranges: of activations, "learned" by gradient (LSQ) or the "moving-average" of
    what batches hold; where they begin is found on `calibration` training inputs by `rule`. per_channel: weights' scales.
    equalize: cross-layer equalization before, which with one scale a tensor is most of the way.
    teacher_share: how much of the loss is the outputs of the network before rounding (before the first pruning where there
    was one), the rest being labels; loss: how it learns from them. What is left as the network has the rounded weights.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"engine"})
    kind: Literal["qat"]
    fit: FitSettings
    ranges: RangeTraining = "learned"
    rule: CalibrationRule = "mse"
    calibration: Annotated[int, Field(ge=1)] = 64
    per_channel: bool = True
    equalize: bool = False
    teacher_share: Fraction = 0.5
    loss: DistillLoss = DistillLoss()

    @property
    def writes(self) -> tuple[str, ...]:
        return ("tflite/int8",)


class ExportPass(PassSettings):
    """Further engine files of the network as it stands.

    onnx/int8: with explicit Q/DQ as TensorRT reads it, made of the int8 TFLite file, so a quantize pass comes before.
    onnx/float16: weights and sums in float16, inputs and outputs in float32. max_apart: how far the metric of a file may be off from
    what it was made of, or for classes how often another one may come first; without, half a point and 1 %. A file that is further
    off is left out.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"engine"})
    changes_network: ClassVar[bool] = False
    kind: Literal["export"]
    formats: Annotated[
        tuple[Literal["onnx/float32", "onnx/float16", "onnx/int8", "tflite/float16", "tflite/float32"], ...],
        Field(min_length=1),
    ] = ("onnx/float32",)
    max_apart: Fraction | None = None

    @property
    def writes(self) -> tuple[str, ...]:
        return self.formats


AnyPass = Annotated[
    PretrainPass
    | TrainPass
    | PrunePass
    | SparsifyPass
    | DistillPass
    | DataFreePass
    | QuantizePass
    | QatPass
    | ExportPass,
    Field(discriminator="kind"),
]


def check_order(passes: Sequence[PassSettings], *, trained: bool) -> None:
    """Whether each pass finds what it needs. trained: the network's weights are before the first one.

    Raises ValueError saying what is missing.
    """
    kinds = [settings.kind for settings in passes]
    if "pretrain" in kinds[1:] or kinds == ["pretrain"]:
        raise ValueError("pretrain must be the first pass, and train follow it")
    facts: set[Fact] = {"trained"} if trained else set()
    written: set[str] = set()
    for number, (settings, kind) in enumerate(zip(passes, kinds, strict=True)):
        needs = dict(settings.needs)
        if getattr(settings, "teacher", None) is None:
            needs |= settings.needs_without_teacher
        for fact, text in needs.items():
            if fact not in facts:
                raise ValueError(text.format(kind=kind))
        if "onnx/int8" in settings.writes and "tflite/int8" not in written:
            raise ValueError(
                "onnx/int8 is made of the int8 TFLite file: put quantize (int8) or qat before export"
            )
        if "qat" in kinds[:number] and settings.writes != ("onnx/int8",):
            raise ValueError(
                f"{kind} after qat: its network rounds and cuts, files in float would say something else; "
                'export formats = ["onnx/int8"] can follow it'
            )
        written |= set(settings.writes)
        if settings.changes_network and "engine" in facts:
            raise ValueError(f"{kind} after quantize or export: engine files would be of an older network")
        facts |= settings.gives
    if "engine" not in facts:
        raise ValueError("no pass writes an engine file: end with quantize or export")
