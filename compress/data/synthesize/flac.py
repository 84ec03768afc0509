"""Made sounds as FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_flac(path: Path, samples: NDArray[np.float32], sample_rate_hz: int) -> None:
    """samples: (N,), -1..1, kept in 16 bits. In memory first: soundfile reports a full disk as a fault of its own."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate_hz, format="FLAC", subtype="PCM_16")
    path.write_bytes(buffer.getvalue())
