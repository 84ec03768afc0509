"""Downloads one file: HTTPS only, resumed where it broke off, capped, and whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edgeai.console import print_note, progress_bar
from edgeai.errors import DataError, DataMissingError, UsageError

TIMEOUT_S = 30.0
TRIES = 6
MAX_BYTES = 30 << 30
_CHUNK_BYTES = 1 << 18
_LOCAL = ("127.0.0.1", "localhost", "::1")


def check_url(url: str) -> str:
    """The URL, when it is https, file, or http to this machine. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme in ("https", "file") or (parts.scheme == "http" and parts.hostname in _LOCAL):
        return url
    raise UsageError(f"{url} is not fetched: only https is, so that nobody on the way can change the file")


def download_file(
    url: str,
    path: Path,
    *,
    size_bytes: int = 0,
    max_bytes: int = MAX_BYTES,
    wait: Callable[[float], None] = time.sleep,
) -> str:
    """Download to `path` unless it is there; the SHA-256 of the file, in hex.

    What has come lies in `path`.part until it is whole, also when the program ends: the next call goes on from there, if
    the server still has the same file (ETag or date). A connection that breaks is tried again, 6 times without a byte.
    size_bytes: what the file must have, 0 unknown. wait: sleeps.

    Raises UsageError for another scheme than https, DataMissingError where the server has no such file or cannot be
    reached, DataError for a wrong or too large size, or a full disk.
    """
    check_url(url)
    if path.is_file():
        return hash_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    limit = min(max_bytes, size_bytes or max_bytes)
    failures = 0
    with progress_bar(f"{path.name}", size_bytes or None) as advance:
        have = part.stat().st_size if part.is_file() else 0
        if have:
            print_note(f"{path.name}: going on after {have:,} bytes")
            advance(have)
        while True:
            before = part.stat().st_size if part.is_file() else 0
            try:
                done = _get(url, part, limit, advance)
            except (OSError, http.client.HTTPException) as error:
                done, why = False, _reason(error)
                if (
                    isinstance(error, urllib.error.HTTPError)
                    and error.code < 500
                    and error.code not in (408, 429)
                ):
                    raise DataMissingError(f"{url} is not there: HTTP {error.code} {error.reason}") from error
                if isinstance(error, OSError) and error.errno == 28:  # ENOSPC
                    raise DataError(f"{part} cannot be written: no space left") from error
            else:
                why = "the connection was cut"
            if done:
                break
            after = part.stat().st_size if part.is_file() else 0
            failures = 0 if after > before else failures + 1
            if failures >= TRIES:
                raise DataMissingError(
                    f"{url} cannot be fetched: {why}",
                    next_step=f"run it again to go on after {after:,} bytes"
                    if after
                    else "check the network",
                )
            wait(min(30.0, 2.0**failures))
    size = part.stat().st_size
    if size_bytes and size != size_bytes:
        part.unlink()
        raise DataError(f"{url} has {size:,} bytes, {size_bytes:,} are expected")
    part.replace(path)
    _note_path(part).unlink(missing_ok=True)
    return hash_file(path)


def _get(url: str, part: Path, limit: int, advance: Callable[[int], None]) -> bool:
    """One request that adds to `part`; whether it is whole now."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "edgeai-compress", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  check_url allowed it
    note = _read_note(part)
    if have and note.get("url") == url and note.get("validator"):
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", str(note["validator"]))
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        answer = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            if (error.headers.get("Content-Range") or "").endswith(f"/{have}"):
                return True
            part.unlink()  # another file than the one that was begun
            return False
        raise
    with answer:
        resumed = answer.status == 206 and _range_start(answer.headers.get("Content-Range")) == have
        if answer.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            return False
        begin = have if resumed else 0
        length = answer.headers.get("Content-Length")
        whole = begin + int(length) if length and length.isdigit() else None
        if whole is not None and whole > limit:
            raise DataError(f"{url} has {whole:,} bytes, at most {limit:,} are expected")
        if whole is not None and shutil.disk_usage(part.parent).free < whole - begin:
            raise DataError(f"{part.parent} has no room for {whole - begin:,} bytes")
        if not resumed:
            tag = answer.headers.get("ETag") or ""
            strong = tag if not tag.startswith("W/") else ""
            validator = strong or answer.headers.get("Last-Modified") or ""
            _note_path(part).write_text(json.dumps({"url": url, "validator": validator}))
        got = begin
        with part.open("ab" if resumed else "wb") as out:
            while chunk := answer.read(_CHUNK_BYTES):
                got += len(chunk)
                if got > limit:
                    out.truncate(0)
                    raise DataError(f"{url} goes on after {limit:,} bytes, no more are expected")
                out.write(chunk)
                advance(len(chunk))
        return whole is None or got >= whole


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and to this machine from this machine, nowhere else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl)
        if urlsplit(newurl).scheme == "file" or (
            urlsplit(newurl).hostname in _LOCAL and urlsplit(req.full_url).hostname not in _LOCAL
        ):
            raise UsageError(f"{req.full_url} leads to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def local_file(url: str) -> Path | None:
    """The file that a file: URL means; None for other URLs."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex; a bar where it takes long."""
    digest = hashlib.sha256()
    with path.open("rb") as file, progress_bar(f"hash of {path.name}", path.stat().st_size) as advance:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(_note_path(part).read_text())
        if isinstance(note, dict):
            return note
    return {}


def _range_start(text: str | None) -> int:
    """N of `bytes N-M/L`; -1 where it is something else."""
    first = (text or "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__
