"""A request's body as what a model takes. Its type, its first bytes and the sizes in its header are checked before
anything is decoded: a few kilobytes of PNG or FLAC may claim to be gigabytes.
"""

from __future__ import annotations

import io
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeai.bundle.golden import read_npy
from edgeai.errors import SourceFormatError, TensorError
from edgeai.serve.faults import RequestError
from edgeai.sources.audio_file import AudioFile
from edgeai.sources.image_folder import decode_picture
from edgeai.types import Array, Chunk

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
SOUND: Final = "audio/*"
NPY: Final = "application/x-npy"

MAX_PIXELS: Final = 25_000_000
MAX_CLIP_S: Final = 120.0
MAX_CHANNELS: Final = 8

_JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# what `edgeai listen` takes: WAV, FLAC, Ogg (Vorbis, Opus), AIFF
_SOUND_MAGICS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM")
# JPEG markers (ITU-T T.81, table B.1): those without a length, and the frame headers, which are not DHT, JPG, DAC
_BARE = frozenset((0x01, *range(0xD0, 0xD8)))
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN_OR_END = frozenset((0xD8, 0xD9, 0xDA))


def read_picture(body: bytes, kind: str) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, as `edgeai detect` reads the same file. kind: JPEG or PNG.

    Raises RequestError: 415 where the bytes are of another kind, 413 for more than MAX_PIXELS, 422 for a header that
    makes no sense and a file that is cut. Raises SourceFormatError where decoding fails.
    """
    width, height = _jpeg_size(body) if kind == JPEG else _png_size(body)
    if width * height > MAX_PIXELS:
        raise RequestError(
            413,
            f"the picture is {width} x {height} pixels, at most {MAX_PIXELS} are decoded",
            next_step="scale it down",
        )
    return decode_picture(body, called="the body")


def read_clip(body: bytes, sample_rate_hz: int) -> list[Chunk]:
    """A sound file as the chunks that `edgeai listen` would take from it.

    Raises RequestError: 415 where the bytes are no sound file that is known, 413 for more than MAX_CLIP_S or
    MAX_CHANNELS. Raises SourceFormatError where it cannot be decoded.
    """
    if not body.startswith(_SOUND_MAGICS):
        raise RequestError(
            415, "the body is no sound file that is known", next_step="send WAV, FLAC, Ogg or AIFF"
        )
    # a file in memory: libsndfile reads it without calling back into Python
    handle = os.memfd_create("clip", os.MFD_CLOEXEC)
    try:
        with open(handle, "wb", closefd=False) as file:
            file.write(body)
        path = f"/proc/self/fd/{handle}"
        with AudioFile(path, stream="audio", sample_rate_hz=sample_rate_hz, called="the body") as source:
            if source.channels > MAX_CHANNELS:
                raise RequestError(
                    413, f"the clip has {source.channels} channels, at most {MAX_CHANNELS} are read"
                )
            return _chunks(source)
    finally:
        os.close(handle)


def _chunks(source: AudioFile) -> list[Chunk]:
    chunks, samples = [], 0
    for chunk in source:
        # counted, not read from the header: that may say anything
        samples += len(chunk.samples)
        if samples > MAX_CLIP_S * source.sample_rate_hz:
            raise RequestError(
                413, f"the clip is longer than {MAX_CLIP_S:g} s", next_step="send it in shorter pieces"
            )
        chunks.append(chunk)
    return chunks


def read_tensor(body: bytes) -> Array:
    """The array of a .npy file, uint8 or float32. Raises TensorError, for pickles as for all that is none."""
    try:
        return read_npy(io.BytesIO(body), "the body")
    except Exception as error:  # numpy's header reader raises a dozen kinds on hostile bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise TensorError(
            f"the body is no .npy file that can be read ({reason})",
            next_step="write it with numpy.save(file, array, allow_pickle=False)",
        ) from None


def _jpeg_size(body: bytes) -> tuple[int, int]:
    """Width and height of the frame header."""
    if not body.startswith(_JPEG_MAGIC):
        raise _mistyped(JPEG)
    at = 2
    while at + 9 <= len(body) and body[at] == 0xFF:
        marker = body[at + 1]
        if marker == 0xFF:  # any number of fill bytes may come before a marker
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            if body.rfind(b"\xff\xd9", at) < 0:
                raise SourceFormatError("the JPEG is cut: it has no end", next_step="send the whole file")
            return _side(body[at + 7 : at + 9]), _side(body[at + 5 : at + 7])
        elif marker in _SCAN_OR_END:
            break
        else:
            at += 2 + max(2, int.from_bytes(body[at + 2 : at + 4], "big"))
    raise SourceFormatError("the JPEG is cut or damaged: no frame header was found")


def _png_size(body: bytes) -> tuple[int, int]:
    if not body.startswith(_PNG_MAGIC):
        raise _mistyped(PNG)
    if body[8:16] != b"\x00\x00\x00\x0dIHDR" or b"IEND" not in body[-64:]:
        raise SourceFormatError("the PNG is cut or damaged", next_step="send the whole file")
    return _side(body[16:20]), _side(body[20:24])


def _side(number: bytes) -> int:
    side = int.from_bytes(number, "big")
    if not side:
        raise SourceFormatError("the picture's header says that it has no pixels")
    return side


def _mistyped(kind: str) -> RequestError:
    return RequestError(415, f"the body is no {kind}", next_step="say in Content-Type what it is")
