"""A decoder's parameters, read from a bundle into its settings. Apart from the decoders: voice needs no OpenCV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from edgeai.bundle.manifest import Settings
from edgeai.errors import StageError
from edgeai.faults import nearest_hint, trace

S = TypeVar("S", bound=Settings)


def read_params(model: type[S], params: Mapping[str, Any], *, decoder: str) -> S:
    """`params` as `model`, or StageError naming the parameter (the nearest one where it is unknown)."""
    try:
        return model.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            _, known = trace(model, first["loc"])
            hint = nearest_hint(str(first["loc"][-1]), known)
            raise StageError(f"decoder {decoder!r} has no parameter {key!r}", next_step=hint) from None
        where = f"parameter {key!r} of decoder {decoder!r}" if key else f"decoder {decoder!r}"
        given = f", got {first['input']!r}" if key and first["type"] != "missing" else ""
        raise StageError(f"{where}: {first['msg'].removeprefix('Value error, ')}{given}") from None
