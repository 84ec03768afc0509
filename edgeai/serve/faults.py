"""What a request can end in beside an answer: a status and one line of JSON, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgeai.errors import EdgeError, SourceError, TensorError

JSON_TYPE = "application/json"


class RequestError(EdgeError):
    """A request that is refused. status: of HTTP. headers: more of the response's, such as Retry-After."""

    def __init__(
        self, status: int, message: str, *, next_step: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.status = status
        self.headers = dict(headers or {})


def status_of(error: Exception) -> int:
    """422 where what was sent cannot be read or does not fit the model, 500 where the model or this program is at fault."""
    if isinstance(error, RequestError):
        return error.status
    return 422 if isinstance(error, SourceError | TensorError) else 500


def fault_body(error: Exception) -> bytes:
    """What a fault of this program is told as: its kind alone, the rest is for the server's log."""
    return error_body(f"a fault of this program, {type(error).__name__}", "please report it")


def error_body(message: str, next_step: str = "") -> bytes:
    """{"error": one line, "next": what to do}, as every fault is told.

    >>> error_body("no such model; see /v1/models", "see /v1/models").decode()
    '{"error":"no such model","next":"see /v1/models"}'
    """
    line = " ".join(message.split())
    if next_step:
        line = line.removesuffix(" ".join(next_step.split())).rstrip("; ")
    return json.dumps({"error": line, "next": next_step}, separators=(",", ":")).encode()
