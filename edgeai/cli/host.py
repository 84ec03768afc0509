"""The device at hand, as its engines see it: the one place below which nothing asks the environment."""

from __future__ import annotations

import os
from pathlib import Path

from edgeai.config import EnginesSettings
from edgeai.engines import EngineHost
from edgeai.errors import EdgeError, ProfileError
from edgeai.hardware import Hardware, nvidia_gpus, read_hardware
from edgeai.profile import Profile, list_profiles, match_profile


def this_host(
    settings: EnginesSettings | None = None, *, cache: Path | None = None, verify: bool = False
) -> EngineHost:
    """The device that this process runs on, its engines set as a configuration says. Raises EdgeError as engine_cache.

    cache: in the place of the configuration's folder. verify: also where the configuration does not ask for it.
    """
    settings = settings or EnginesSettings()
    return EngineHost(
        profile=_profile(),
        cache=cache or settings.cache or engine_cache(),
        verify=verify or settings.verify,
        dla=settings.dla,
        cuda_graph=settings.cuda_graph,
        max_cache_bytes=settings.max_cache_bytes,
    )


def engine_cache() -> Path:
    """Where built and measured engines are kept.

    EDGEAI_CACHE; else the folder that systemd made for the service (CacheDirectory=); else edgeai in XDG_CACHE_HOME or
    in ~/.cache. Raises EdgeError where there is neither that nor a home.
    """
    if own := os.environ.get("EDGEAI_CACHE"):
        return Path(own).absolute() / "engines"
    if service := os.environ.get("CACHE_DIRECTORY"):
        return Path(service.partition(":")[0]) / "engines"
    try:
        user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise EdgeError(
            "there is no home folder to keep engines in", next_step="set EDGEAI_CACHE to a folder"
        ) from None
    return Path(user) / "edgeai" / "engines"


def find_profile(hardware: Hardware, *, nvidia_gpu: bool) -> Profile | None:
    """The profile that fits a machine, None where none does. Raises ProfileError, FileNotFoundError where they cannot be read."""
    return match_profile(
        list_profiles(),
        compatible=hardware.compatible,
        board=hardware.board,
        arch=hardware.arch,
        nvidia_gpu=nvidia_gpu,
    )


def _profile() -> Profile | None:
    """The profile of a board or of a machine with an NVIDIA GPU. A plain PC needs none: its order is the default."""
    hardware = read_hardware(ask_gpu=False)
    gpus = nvidia_gpus()
    if not hardware.compatible and not gpus:
        return None
    try:
        return find_profile(hardware, nvidia_gpu=bool(gpus))
    except (ProfileError, FileNotFoundError):
        return None  # doctor tells; a device without its profile still runs what a CPU can
