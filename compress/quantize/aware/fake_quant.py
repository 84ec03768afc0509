"""A layer that rounds its input as int8 will, and learns where the 256 steps should lie.

Jacob et al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference": rounding
in the forward pass, none in the backward pass. The gradient of the ends is that of LSQ (Esser et al. 2020) and LSQ+ (Bhalgat
et al. 2020): what is cut moves its end, what is rounded moves the step. The ends are learned by their logarithm, as in TQT
(Jain et al. 2020): Adam's steps are then a share of the range, whatever its size.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

STEPS = 255
MOMENTUM = 0.99  # of moving-average ranges, a training step
LOG_RANGE = "log_range"  # the weight's name: not to be decayed
# how many times faster than weights ranges move: at a rate of 1e-4 an Adam step changes a weight of 0.02 by half a percent,
# and should change a range by about as much
SPEED = 30.0


@cache
def fake_quant_class() -> Any:
    """The Keras layer. FakeQuant(low, high, trains=...): low <= 0 <= high, not both 0, is where its range begins.

    trains: "learned" (by gradient), "moving-average" (of what batches hold) or "fixed". `bounds()` is where the range is now.
    """
    import keras
    import tensorflow as tf

    @keras.saving.register_keras_serializable(package="edgeai")  # type: ignore[untyped-decorator, unused-ignore]
    class FakeQuant(keras.layers.Layer):  # type: ignore[misc, unused-ignore]
        def __init__(self, low: float, high: float, trains: str = "learned", **options: Any) -> None:
            super().__init__(**options)
            self.low, self.high, self.trains = float(low), float(high), trains

        def build(self, shape: Any) -> None:
            ends = np.array([-self.low, self.high], np.float32)
            if self.trains == "learned":
                # an end at 0 (after a ReLU) stays there
                start = np.log(np.where(ends > 0, ends, 1.0)) / SPEED
                self.log_range = self._weight(LOG_RANGE, start, trainable=True)
            else:
                self.range = self._weight("range", ends, trainable=False)

        def _weight(self, name: str, start: Any, *, trainable: bool) -> Any:
            return self.add_weight(
                name=name,
                shape=(2,),
                initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(start, dtype),
                trainable=trainable,
                dtype="float32",
                autocast=False,
            )

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "low": self.low, "high": self.high, "trains": self.trains}

        def _ends(self) -> tuple[Any, Any]:
            if self.trains == "learned":
                both = tf.exp(tf.convert_to_tensor(self.log_range) * SPEED)
                both *= tf.constant([float(self.low < 0), float(self.high > 0)])
            else:
                both = tf.convert_to_tensor(self.range)
            return -both[0], both[1]

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            values = tf.cast(inputs, tf.float32)
            if training and self.trains == "moving-average":
                seen = tf.stack([tf.maximum(-tf.reduce_min(values), 0), tf.maximum(tf.reduce_max(values), 0)])
                old = tf.convert_to_tensor(self.range)
                self.range.assign(old * MOMENTUM + seen * (1 - MOMENTUM))
            low, high = self._ends()
            return tf.cast(_rounded(values, low, high), inputs.dtype)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

        def bounds(self) -> tuple[float, float]:
            low, high = self._ends()
            return float(low), float(high)

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def _rounded(values: Any, low: Any, high: Any) -> Any:
        rounded = tf.quantization.fake_quant_with_min_max_vars(values, low, high, num_bits=8)

        def gradient(above: Any) -> tuple[Any, Any, Any]:
            inside, of_low, of_high = tf.quantization.fake_quant_with_min_max_vars_gradient(
                above, values, low, high, num_bits=8
            )
            # the step is (high - low) / 255
            of_step = tf.reduce_sum(inside * (rounded - values)) / (high - low)
            share = tf.cast(tf.size(values) / tf.shape(values)[0], tf.float32) * STEPS / 2
            # LSQ, section 2.2: as large as a weight's gradient, which the clipping of the whole gradient should see
            scale = tf.math.rsqrt(share) / SPEED
            return inside, (of_low - of_step) * scale, (of_high + of_step) * scale

        return rounded, gradient

    return FakeQuant
