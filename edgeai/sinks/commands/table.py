"""What a device can be told, and what telling it takes: the names, their arguments, and the message around them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgeai.errors import EdgeError
from edgeai.faults import describe_fault
from edgeai.types import JsonValue

CommandName: TypeAlias = Literal[
    "snapshot", "enable", "disable", "set_threshold", "retry", "reload", "restart", "configure"
]
COMMAND_NAMES: Final[tuple[CommandName, ...]] = get_args(CommandName)

MAX_COMMAND_BYTES: Final = 64 << 10
MAX_DESIRED_BYTES: Final = 256 << 10
MAX_VERSION: Final = 2**53  # what JSON's numbers hold exactly everywhere
MAX_TTL_S: Final = 7 * 86400.0
_MAX_DIGITS: Final = 40  # of one number: Python's int is quadratic in its digits

A = TypeVar("A", bound=BaseModel)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RuleName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
_ID: Final = r"[A-Za-z0-9._-]{1,64}"
CommandId = Annotated[str, Field(pattern=f"^{_ID}$")]


class CommandFaultError(EdgeError, ValueError):
    """A message that is no command: told to its sender, or only counted where it has no id to answer to."""


class CommandSettings(BaseModel):
    """What this device lets itself be told.

    allow: names that are carried out, none where absent; "configure" is the desired configuration. ttl_s: seconds that
    a command is good for where it does not say. max_ttl_s: the most that it may say. queue: commands that may wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    allow: tuple[CommandName, ...] = ()
    ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] = 60.0
    max_ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] = 3600.0
    queue: Annotated[int, Field(ge=1, le=1000)] = 16

    @model_validator(mode="after")
    def _default_fits(self) -> CommandSettings:
        if self.ttl_s > self.max_ttl_s:
            raise ValueError(f"ttl_s ({self.ttl_s:g}) must be at most max_ttl_s ({self.max_ttl_s:g})")
        return self


class Arguments(BaseModel):
    """Frozen, strict (no "1" for 1), no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NoArguments(Arguments):
    """{}"""


class CameraArguments(Arguments):
    """{"camera"}"""

    camera: Name


class PartArguments(Arguments):
    """{"camera"}, or {"camera", "rule"} for one of its rules."""

    camera: Name
    rule: RuleName | None = None


class ThresholdArguments(Arguments):
    """{"stream", "value"}: the least score of a camera's boxes or a microphone's keywords, between 0 and 1."""

    stream: Name
    value: Annotated[float, Field(gt=0, le=1)]


class StreamArguments(Arguments):
    """{"camera"} or {"microphone"}."""

    camera: Name | None = None
    microphone: Name | None = None

    @model_validator(mode="after")
    def _one(self) -> StreamArguments:
        if (self.camera is None) == (self.microphone is None):
            raise ValueError("give camera or microphone, one of them")
        return self

    @property
    def name(self) -> str:
        return self.camera or self.microphone or ""

    @property
    def kind(self) -> Literal["camera", "microphone"]:
        return "microphone" if self.camera is None else "camera"


class DesiredArguments(Arguments):
    """What is on cfg/desired: a version that rises with every change, and the whole configuration as TOML."""

    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    toml: Annotated[str, Field(min_length=1, max_length=MAX_DESIRED_BYTES)]


ARGUMENTS: Final[Mapping[CommandName, type[Arguments]]] = {
    "snapshot": CameraArguments,
    "enable": PartArguments,
    "disable": PartArguments,
    "set_threshold": ThresholdArguments,
    "retry": StreamArguments,
    "reload": NoArguments,
    "restart": NoArguments,
    "configure": DesiredArguments,
}


class CommandMessage(Arguments):
    """The payload on cmd/<name>. ttl_s: seconds. issued_at: ISO 8601 with an offset from UTC or "Z"."""

    id: CommandId
    args: dict[str, Any] = Field(default_factory=dict)
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    issued_at: Annotated[str, Field(max_length=64)] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """One to carry out, before `deadline_s` of the monotonic clock. id: "" for a desired configuration."""

    id: str
    name: CommandName
    args: Arguments
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command. reason: one line, "" where it is ok. result: JSON values, small."""

    ok: bool
    reason: str = ""
    result: dict[str, JsonValue] | None = None


def is_command_id(text: str) -> bool:
    """Whether it can be a command's id, and so the last level of its answer's topic."""
    return re.fullmatch(_ID, text) is not None


def parse_object(payload: bytes) -> dict[str, Any]:
    """A payload as a JSON object. Raises CommandFaultError: not UTF-8 (no BOM), not JSON, NaN, a key twice, too deep."""
    try:
        value = json.loads(
            payload.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
        )
    except UnicodeDecodeError:
        raise CommandFaultError("it is not UTF-8 text") from None
    except RecursionError:
        raise CommandFaultError("it is nested too deeply") from None
    except CommandFaultError:
        raise
    except ValueError:
        raise CommandFaultError("it is not JSON") from None
    if not isinstance(value, dict):
        raise CommandFaultError("it is no JSON object")
    return value


def parse_arguments(name: CommandName, args: object) -> Arguments:
    """`args` as the model of `name`. Raises CommandFaultError that names the argument."""
    return _validated(ARGUMENTS[name], args)


def parse_message(value: object) -> CommandMessage:
    """Raises CommandFaultError that names the field."""
    return _validated(CommandMessage, value)


def issued_wall_s(text: str) -> float:
    """Unix time of an ISO 8601 time with its offset. Raises CommandFaultError.

    >>> issued_wall_s("2023-11-14T22:13:20Z")
    1700000000.0
    """
    try:
        # Python 3.10 does not know the Z
        when = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        if when.tzinfo is not None:
            return when.timestamp()
    except (ValueError, OverflowError):
        pass
    raise CommandFaultError("issued_at: must be ISO 8601 with an offset, such as 2026-05-01T12:00:00Z")


def _validated(model: type[A], value: object) -> A:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        unknown = (each for each in faults if each["type"] == "extra_forbidden")
        raise CommandFaultError(describe_fault(next(unknown, faults[0]), model).text[:300]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):  # readers differ in which of the two they take
        raise CommandFaultError("it has a key twice")
    return table


def _no_constant(name: str) -> Any:
    raise CommandFaultError(f"it holds {name}, which is not JSON")


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise CommandFaultError(f"it holds a number of {len(digits)} digits")
    return int(digits)
