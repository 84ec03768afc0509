"""Decoders by the name that a bundle's manifest gives: what a detector says becomes boxes on the frame."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from edgeai.bundle.manifest import Decoder
from edgeai.errors import StageError
from edgeai.stages.decoders.decoder import BoxDecoder

__all__ = ["DECODERS", "BoxDecoder", "open_decoder"]

# name -> module and class, imported when first asked for; the class is called with (params, labels)
DECODERS: dict[str, tuple[str, str]] = {
    "grid": ("edgeai.stages.decoders.grid", "GridDecoder"),
    "ssd": ("edgeai.stages.decoders.ssd", "SsdDecoder"),
}


def open_decoder(decoder: Decoder, *, labels: Sequence[str]) -> BoxDecoder:
    """The decoder that a manifest names, with its parameters checked.

    Raises StageError for an unknown decoder, an unknown or wrong parameter, or labels that do not fit.
    """
    if decoder.name not in DECODERS:
        near = difflib.get_close_matches(decoder.name, DECODERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(DECODERS)}"
        raise StageError(f"there is no decoder {decoder.name!r}", next_step=hint)
    module, name = DECODERS[decoder.name]
    built: BoxDecoder = getattr(importlib.import_module(module), name)(decoder.params, tuple(labels))
    return built
