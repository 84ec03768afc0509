"""TensorFlow without its chatter: its C++ parts log to the process's standard error, past Python."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

from edgeai.errors import EdgeError, first_line

MOST_KEPT = 1 << 16


@contextlib.contextmanager
def quiet_stderr() -> Iterator[list[str]]:
    """Standard error of the whole process, native code included, goes nowhere inside; Python errors still rise.

    What is given holds the lines that were said, once it is over (the last 64 kB). Not for code that talks to the user, and for one thread at a time: the descriptor is the process's.
    """
    sys.stderr.flush()
    said: list[str] = []
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            sink.seek(max(0, sink.seek(0, os.SEEK_END) - MOST_KEPT))
            said.extend(sink.read().decode("utf-8", "replace").splitlines())


def reason_of(error: Exception, said: Sequence[str]) -> str:
    """In one line: of an error of TensorFlow's native parts, which often comes empty, its reason being logged."""
    logged = next((line.partition("error: ")[2] for line in said if "error: " in line), "")
    return (first_line(error) if str(error).strip() or not logged else logged)[:200]


def start_tensorflow() -> None:
    """Import TensorFlow and let it look for GPUs, both in silence. Does nothing where it is imported already.

    Raises EdgeError where the extra is not installed or Python is too old for it.
    """
    if sys.version_info < (3, 11):
        raise EdgeError(
            "training and converting need Python 3.11 to 3.13",
            next_step="make the virtual environment with one",
        )
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with quiet_stderr():
            import keras  # noqa: F401
            import tensorflow as tf

            tf.config.list_physical_devices()  # says "failed call to cuInit" on a machine without a GPU
    except ImportError as error:
        raise EdgeError(
            f"TensorFlow and Keras cannot be imported ({error})", next_step="pip install 'edgeai[compress]'"
        ) from error
    import logging

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
