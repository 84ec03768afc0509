"""Scalars for TensorBoard. The tensorboard package is needed to look at them, not to write them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from edgeai.errors import PassError


class Log(Protocol):
    def __call__(self, step: int, scalars: dict[str, float]) -> None: ...


def _silent(step: int, scalars: dict[str, float]) -> None:
    return None


@contextmanager
def open_log(folder: Path | None) -> Iterator[Log]:
    """A call that writes scalars at a step; one that does nothing without a folder. Closed, and so flushed, on errors too.

    Raises PassError where the folder cannot be written.
    """
    if folder is None:
        yield _silent
        return
    import tensorflow as tf

    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer: Any = tf.summary.create_file_writer(str(folder), flush_millis=10_000)
        writer.init()
    except (OSError, tf.errors.OpError) as error:
        first = str(error).splitlines()[0]
        raise PassError(f"no TensorBoard log can be written in {folder}: {first}") from error

    # what tf.summary.scalar does, which refuses to without the tensorboard package
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"

    def write(step: int, scalars: dict[str, float]) -> None:
        with writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)

    try:
        yield write
    finally:
        writer.close()
