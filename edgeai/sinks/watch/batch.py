"""The events of a batch: lines of JSON under gzip or zstd, from anybody, so bounded in every way."""

from __future__ import annotations

import io
import zlib
from typing import Final

from edgeai.sinks.payload import PayloadError

MAX_UNPACKED_BYTES: Final = 8 << 20
MAX_EVENTS: Final = 20_000
_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib manual, inflateInit2: 16 for the gzip format


def unpack(payload: bytes, coding: str) -> list[bytes]:
    """The lines of a batch, empty ones left out. coding: the last level of its topic, "gzip" or "zstd".

    Raises PayloadError for another coding, what is no such data or not whole, more than 8 MiB unpacked, or more than
    20,000 lines.
    """
    if coding == "gzip":
        data = _gunzip(payload)
    elif coding == "zstd":
        data = _unzstd(payload)
    else:
        raise PayloadError(f"batch has coding {coding!r}, known are gzip and zstd")
    if len(data) > MAX_UNPACKED_BYTES:
        raise PayloadError(f"batch has more than {MAX_UNPACKED_BYTES >> 20} MiB unpacked")
    if data.count(b"\n") > MAX_EVENTS:
        raise PayloadError(f"batch has more than {MAX_EVENTS} lines")
    return [line for line in data.split(b"\n") if line.strip()]


def _gunzip(payload: bytes) -> bytes:
    reader = zlib.decompressobj(_GZIP)
    try:
        data = reader.decompress(payload, MAX_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise PayloadError(f"batch is not gzip: {error}") from error
    if len(data) <= MAX_UNPACKED_BYTES and not reader.eof:
        raise PayloadError("batch is cut off")
    return data


def _unzstd(payload: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise PayloadError("batch is in zstd: pip install zstandard") from None
    # window_log 23 is 8 MiB, what RFC 8878, section 3.1.1.1.2 asks every decoder for
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_UNPACKED_BYTES)
    try:
        with reader.stream_reader(io.BytesIO(payload)) as stream:
            return bytes(stream.read(MAX_UNPACKED_BYTES + 1))
    except zstandard.ZstdError as error:
        raise PayloadError(f"batch is not zstd: {error}") from error
