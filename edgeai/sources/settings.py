"""How a camera is read, as a configuration says it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgeai.bundle.manifest import Settings

Seconds = Annotated[float, Field(ge=0.1, le=3600)]


class LoginSettings(Settings):
    """Who reads a camera. The password is never in the configuration.

    username: as whom. password_file: its first line is the password. password_env: the environment variable whose value is
    the password.
    """

    username: Annotated[str, Field(min_length=1, max_length=256)]
    password_file: Path | None = None
    password_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")] | None = None

    @model_validator(mode="after")
    def _one_password(self) -> LoginSettings:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("give password_file or password_env, not both")
        return self


class CaptureSettings(Settings):
    """How a camera's source is read; all may be left out.

    transport: of RTSP. decoder: "hardware" asks for the board's own, as its profile says, "auto" takes it where there is one.
    width, height, fps: what USB and CSI cameras are asked for. loop: a video begins again at its end.
    stall_s: a live source that gave no picture for so long counts as lost. open_s: how long opening may take.
    retry_s, retry_max_s: the wait before the first attempt to connect again, doubled each time up to the last, with jitter.
    every_s: one still picture every so many seconds, the source closed between; settle_s: how long a camera is read before
    a still is taken, so that its exposure has settled.
    """

    transport: Literal["tcp", "udp"] = "tcp"
    decoder: Literal["auto", "software", "hardware"] = "auto"
    width: Annotated[int, Field(ge=16, le=16384)] | None = None
    height: Annotated[int, Field(ge=16, le=16384)] | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    loop: bool = False
    stall_s: Seconds = 4.0
    open_s: Seconds = 15.0
    retry_s: Seconds = 1.0
    retry_max_s: Seconds = 30.0
    every_s: Annotated[float, Field(ge=1, le=7 * 86400)] | None = None
    settle_s: Annotated[float, Field(ge=0, le=600)] = 2.0

    @model_validator(mode="after")
    def _waits_grow(self) -> CaptureSettings:
        if self.retry_max_s < self.retry_s:
            raise ValueError("retry_max_s must not be below retry_s")
        if self.every_s is not None and self.settle_s >= self.every_s:
            raise ValueError("settle_s must be below every_s")
        return self
