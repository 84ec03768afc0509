"""What a recipe says of each pass: its settings, what it needs to find, what it leaves, and how to ask for less.

Facts about a candidate: "trained" weights; a "reference" network from before a pruning; an "engine" file is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from compress.train.fit import FitSettings
from compress.train.pretrain import PretrainSettings
from edgeai.bundle.manifest import Settings

Fact = Literal["trained", "reference", "engine"]
UNTRAINED = "the first pass must be train, not {kind}: there is no trained network before it (network.init)"
Fraction = Annotated[float, Field(ge=0, le=1)]


class PassSettings(Settings):
    """needs: facts that must hold before the pass, and what to say where one does not. gives: facts that hold after it."""

    needs: ClassVar[Mapping[Fact, str]] = {}
    gives: ClassVar[frozenset[Fact]] = frozenset()
    changes_network: ClassVar[bool] = True
    kind: str

    def softer(self) -> PassSettings | None:
        """The same pass asking for less, for when it lost too much; None where there is nothing to give way in."""
        return None


class TrainPass(PassSettings):
    """Train on labels; with teacher_share > 0 also on what the network said before this pass, output by output."""

    gives: ClassVar[frozenset[Fact]] = frozenset({"trained"})
    kind: Literal["train"]
    fit: FitSettings
    teacher_share: Fraction = 0.0


class PretrainPass(PassSettings):
    """Train what all outputs need (the backbone) on data.unlabelled, without labels; the train pass follows."""

    kind: Literal["pretrain"]
    fit: PretrainSettings


class PrunePass(PassSettings):
    """Remove channels down to macs_ratio in `rounds` equal steps; each is followed by a fit against the unpruned network.

    teacher_share: how much of the loss is the unpruned network's outputs, the rest being labels.
    """

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"reference"})
    kind: Literal["prune"]
    macs_ratio: Annotated[float, Field(gt=0, lt=1)]
    rounds: Annotated[int, Field(ge=1, le=20)] = 2
    round_to: Annotated[int, Field(ge=1)] = 8
    max_removed: Annotated[float, Field(gt=0, lt=1)] = 0.75
    fit: FitSettings
    teacher_share: Fraction = 0.5

    def softer(self) -> PrunePass:
        """Half the way, in the logarithm of the multiplications, as the rounds go."""
        return self.model_copy(update={"macs_ratio": math.sqrt(self.macs_ratio)})


class DistillPass(PassSettings):
    """Fit against the outputs of the network as it was before the first pruning."""

    needs: ClassVar[Mapping[Fact, str]] = {
        "trained": UNTRAINED,
        "reference": "distill needs a prune before it: it learns from the network as it was then",
    }
    kind: Literal["distill"]
    fit: FitSettings
    teacher_share: Fraction = 0.7


class QuantizePass(PassSettings):
    """Post-training quantization to TFLite; calibration: how many training inputs set the ranges of int8."""

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"engine"})
    changes_network: ClassVar[bool] = False
    kind: Literal["quantize"]
    precision: Literal["int8", "float16", "dynamic"] = "int8"
    calibration: Annotated[int, Field(ge=1)] = 200


class ExportPass(PassSettings):
    """Further engine files of the network as it stands."""

    needs: ClassVar[Mapping[Fact, str]] = {"trained": UNTRAINED}
    gives: ClassVar[frozenset[Fact]] = frozenset({"engine"})
    changes_network: ClassVar[bool] = False
    kind: Literal["export"]
    formats: Annotated[
        tuple[Literal["onnx/float32", "tflite/float16", "tflite/float32"], ...], Field(min_length=1)
    ] = ("onnx/float32",)


AnyPass = Annotated[
    PretrainPass | TrainPass | PrunePass | DistillPass | QuantizePass | ExportPass,
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
    for settings, kind in zip(passes, kinds, strict=True):
        for fact, text in settings.needs.items():
            if fact not in facts:
                raise ValueError(text.format(kind=kind))
        if settings.changes_network and "engine" in facts:
            raise ValueError(f"{kind} after quantize or export: engine files would be of an older network")
        facts |= settings.gives
    if "engine" not in facts:
        raise ValueError("no pass writes an engine file: end with quantize or export")
