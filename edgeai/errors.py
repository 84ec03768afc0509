"""The errors a user can meet: each says what, where, expected / actual, and what to do next.

Only `EdgeError` and its children leave the public interface on bad input; the command line prints one line of
them and exits with `exit_code`.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Any fault with a cause a user can act on.

    `next_step` is the command or change that mends it; it becomes the end of the one line that is printed.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        self.next_step = next_step
        super().__init__(f"{message}; {next_step}" if next_step else message)


class UsageError(EdgeError, ValueError):
    """A wrong argument or option."""

    exit_code = 2


class ConfigError(EdgeError, ValueError):
    """A configuration file that cannot be used: unknown key, wrong type, value out of range."""

    exit_code = 2


class BundleError(EdgeError):
    """A bundle that cannot be used."""


class BundleMissingError(BundleError, FileNotFoundError):
    """No bundle at that place."""


class BundleManifestError(BundleError, ValueError):
    """manifest.json is absent, unreadable or of an unknown schema."""


class BundleHashError(BundleError, ValueError):
    """A file differs from the size or SHA-256 that the manifest gives."""


class GoldenMismatchError(BundleError):
    """An engine does not give the bundle's golden outputs on this machine."""


class EngineError(EdgeError):
    """An engine cannot be opened or cannot run."""


class EngineUnavailableError(EngineError, ImportError):
    """The library that drives this kind of engine is not installed."""


class TensorError(EngineError, ValueError):
    """An array does not fit the tensor it was given for."""


class SourceError(EdgeError):
    """A camera, microphone or file cannot be read."""


class SourceMissingError(SourceError, FileNotFoundError):
    """The file or device is not there."""


class SourceFormatError(SourceError, ValueError):
    """The file is there, but it is not what its reader expects."""


class StageError(EdgeError, ValueError):
    """A processing stage was given settings or data that it cannot use."""


class SinkError(EdgeError):
    """An event could not be handed over; the caller keeps it."""


class OutboxError(SinkError):
    """The outbox file cannot be used."""


class ProfileError(EdgeError, ValueError):
    """A device profile is unknown or wrong."""


class DataError(EdgeError, ValueError):
    """A data set or a file of it is wrong (not: absent)."""


class DataMissingError(EdgeError, FileNotFoundError):
    """A data set, or a file of it, is not there."""


class RecipeError(EdgeError, ValueError):
    """A compression recipe cannot be used; said before work starts."""

    exit_code = 2


class PassError(EdgeError):
    """A compression pass failed."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
