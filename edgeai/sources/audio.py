"""What an audio address means: a file by its suffix, or a microphone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from edgeai.errors import SourceFormatError, SourceMissingError
from edgeai.sources.source import Source
from edgeai.types import Chunk


def _open_file(where: str, stream: str, sample_rate_hz: int) -> Source[Chunk]:
    from edgeai.sources.audio_file import AudioFile

    return AudioFile(where, stream=stream, sample_rate_hz=sample_rate_hz)


def _open_microphone(where: str, stream: str, sample_rate_hz: int) -> Source[Chunk]:
    from edgeai.sources.microphone import Microphone

    device: str | int | None = int(where) if where.isdecimal() else where or None
    return Microphone(device, stream=stream, sample_rate_hz=sample_rate_hz)


# "mic", "mic:2" (its index), "mic:USB" (part of its name)
DEVICES: Mapping[str, Callable[[str, str, int], Source[Chunk]]] = {
    "mic": _open_microphone,
}

FILES: Mapping[str, Callable[[str, str, int], Source[Chunk]]] = {
    ".wav": _open_file,
    ".flac": _open_file,
    ".ogg": _open_file,
    ".oga": _open_file,
    ".opus": _open_file,
    ".aiff": _open_file,
    ".aif": _open_file,
}


def is_microphone(uri: str) -> bool:
    """Whether `uri` names a live device, which has no end, and no file.

    >>> is_microphone("mic:2"), is_microphone("./mic")
    (True, False)
    """
    return uri.partition(":")[0] in DEVICES


def open_audio(uri: str, *, stream: str, sample_rate_hz: int = 16_000) -> Source[Chunk]:
    """The source of mono chunks at sample_rate_hz that `uri` names, not yet opened: `with` does that.

    uri: "mic", "mic:<index>", "mic:<name or part of it>", a path, or file:// with a path. A file called mic is
    ./mic. Raises SourceMissingError for a file that is not there, SourceFormatError for an unknown suffix.
    """
    kind, _, where = uri.partition(":")
    if is_microphone(uri):
        return DEVICES[kind](where, stream, sample_rate_hz)
    path = unquote(urlparse(uri).path) if uri.startswith("file://") else uri
    suffix = Path(path).suffix.lower()
    if suffix in FILES:
        return FILES[suffix](path, stream, sample_rate_hz)
    if "://" not in path and not Path(path).exists():
        raise SourceMissingError(
            f"no sound file {path!r}", next_step="check the path, or use mic for the microphone"
        )
    raise SourceFormatError(
        f"cannot tell what kind of audio {uri!r} is",
        next_step=f"use mic, mic:<name or index>, or a file ending in {', '.join(FILES)}",
    )
