"""What post-training quantization can be told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

CalibrationRule = Literal["min-max", "percentile", "mse", "entropy"]
QuantizedPrecision = Literal["int8", "int4", "int16x8", "float16", "dynamic"]
RangeTraining = Literal["learned", "moving-average"]
RoundingRule = Literal["nearest", "learned"]
# precisions whose activations are integers: their ranges come from inputs
NEEDS_INPUTS = frozenset({"int8", "int4", "int16x8"})


class PostTraining(BaseModel):
    """precision: "float16" and "dynamic" touch weights only; "int8"; "int4" has weights of four bits and int8 activations;
    "int16x8" int16 activations and int8 weights.

    For int8 and int4: rule: how ranges come from what calibration inputs do (compress.quantize.calibrate). equalize:
    cross-layer equalization first. correct_biases: of what rounding moved. rounding: to the nearest integer, or learned
    (AdaRound), rounding_steps for each layer; four bits are always learned. per_channel: weights' scales. max_drop: of the
    metric, against the network in float; where int8 drops more, the fewest layers that hold it stay float32, at most
    max_float of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    precision: QuantizedPrecision = "int8"
    rule: CalibrationRule = "min-max"
    equalize: bool = False
    correct_biases: bool = True
    rounding: RoundingRule = "nearest"
    rounding_steps: Annotated[int, Field(ge=1, le=20_000)] = 600
    per_channel: bool = True
    max_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    max_float: Annotated[float, Field(gt=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _only_int8_is_mixed(self) -> PostTraining:
        if self.max_drop is not None and self.precision != "int8":
            raise ValueError(f"max_drop leaves layers of int8 in float; {self.precision} is not mixed")
        return self
