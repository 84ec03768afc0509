"""A network that somebody built and saved with Keras 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeai.errors import DataError, DataMissingError
from edgeai.whole_file import whole_file


def keras_network(path: Path) -> Any:
    """The functional model in a .keras file; no code in it is ever run (Keras' safe mode).

    Raises DataMissingError or DataError for a file that is absent, no Keras model, or not a functional one.
    """
    import keras

    if not path.is_file():
        raise DataMissingError(f"no Keras file at {path}")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise DataError(f"{path} is no Keras model that can be read: {first[:200]}") from error
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise DataError(f"{path} holds a {type(model).__name__}, a functional model is needed")
    return model


def save_network(network: Any, path: Path) -> None:
    """Write a Keras model to `path` (.keras), whole or not at all. Raises DataError where it cannot be written."""
    with whole_file(path) as part:
        network.save(part)
