"""Whether an activation works element by element: only then may a channel go without touching the others."""

from __future__ import annotations

from typing import Any

import numpy as np

# of keras.activations, these look at all channels together (or, glu, at pairs of them)
_MIXING = {"softmax", "log_softmax", "sparsemax", "glu"}


def mixes_channels(activation: Any) -> bool:
    """True where removing one channel may change what the activation makes of the others. None is linear.

    What Keras brings is known by name; anything else is tried on numbers: the columns of a (5, 7) array, all together and
    some of them alone. What cannot be tried counts as mixing.
    """
    if activation is None:
        return False
    name = str(getattr(activation, "__name__", ""))
    if str(getattr(activation, "__module__", "")).startswith("keras.") and name:
        return name in _MIXING
    if getattr(activation, "weights", None):
        return True
    sample = np.random.default_rng(0).normal(0, 3, (5, 7)).astype(np.float32)
    some = [0, 2, 3, 6]
    try:
        whole, part = np.asarray(activation(sample)), np.asarray(activation(sample[:, some]))
    except Exception:
        return True
    return whole.shape != sample.shape or not np.allclose(whole[:, some], part, rtol=1e-5, atol=1e-6)
