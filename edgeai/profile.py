"""What is known about one kind of device, fact by fact: its value, where it was read, and how sure that is.

Code branches on these fields, never on a device's name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgeai.data import find_data
from edgeai.errors import ProfileError
from edgeai.settings_file import parse_settings

Mark = Literal["confirmed", "third-party", "unconfirmed"]
Family = Literal["jetson", "raspberry-pi", "coral", "x86"]
Arch = Literal["aarch64", "x86_64"]
Format = Literal["tflite", "onnx", "plan"]
Precision = Literal["float32", "float16", "int8", "int4", "float8", "float4"]

MAX_PROFILE_BYTES = 64 << 10
_SUFFIX = ".toml"

# L4T lines that have a board support package for a system on chip (NVIDIA's release notes, by way of meta-tegra).
L4T_LINES: dict[str, tuple[int, ...]] = {
    "t210": (32,),
    "t186": (32,),
    "t194": (32, 35),
    "t234": (35, 36, 39),
    "t264": (38, 39),
}
# TensorRT 10, the oldest that the runtime drives, starts at this compute capability (its support matrix).
FIRST_TENSORRT_SM = 70

T = TypeVar("T")
Text = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
UsbId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
Module = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{4}$")]
Release = Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{1,2}(\.[0-9]{1,2})?$")]


def precisions_of_sm(sm: int) -> tuple[Precision, ...]:
    """What a GPU of compute capability `sm` (major and minor as one number, 87 for 8.7) computes with TensorRT.

    From TensorRT's support matrix: float16 from 5.3, int8 by dp4a from 6.1 but not 6.2, int4 weights from 8.0,
    float8 from 8.9, float4 from 10.0.

    >>> precisions_of_sm(62)
    ('float32', 'float16')
    """
    has: tuple[tuple[Precision, bool], ...] = (
        ("float32", True),
        ("float16", sm >= 53 and sm != 61),
        ("int8", sm >= 61 and sm != 62),
        ("int4", sm >= 80),
        ("float8", sm >= 89),
        ("float4", sm >= 100),
    )
    return tuple(name for name, supported in has if supported)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fact(_Table, Generic[T]):
    """One fact: `source` says where it was read, `mark` how sure it is.

    confirmed: read in the source named, or in one of those named. third-party: a secondary source, or one that was not read again.
    unconfirmed: from memory or from sources that disagree; never rely on it without asking the board.
    """

    value: T
    source: Text
    mark: Mark


class Profile(_Table):
    """Facts about one device.

    sm: CUDA compute capability as one number (87 is 8.7); absent where there is no GPU or where `sm_from` is
    "nvml", a desktop card that is asked at run time. precisions: what its accelerator (GPU, else TPU, else CPU)
    computes; on the CPU LiteRT runs float32 and int8 everywhere. formats: the engine files that our runtime can
    drive there, the one to be preferred first. arch: absent for an accelerator that any host takes. ram_gb: every size sold under this profile. l4t: releases known to run on it.
    power_modes: nvpmodel's names, their place in the list being the id; store the name and let the board's own
    /etc/nvpmodel.conf give the id. csi_source, video_decoder: the GStreamer elements of its CSI cameras and of its hardware
    decoder for camera streams; absent where there is none. modules: BOARDID-SKU. flash_configs: names for NVIDIA's flash.sh, the plain
    one first. tested: machine, by what, when; empty means never run on a board.
    """

    name: Name
    title: Text
    family: Family
    tested: str = ""
    notes: str = ""
    sm_from: Literal["profile", "nvml"] = "profile"

    arch: Fact[Arch] | None = None
    precisions: Fact[Annotated[tuple[Precision, ...], Field(min_length=1)]]
    formats: Fact[Annotated[tuple[Format, ...], Field(min_length=1)]]
    cpu: Fact[Text] | None = None
    cpu_cores: Fact[Annotated[int, Field(ge=1, le=1024)]] | None = None
    ram_gb: Fact[Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1)]] | None = (
        None
    )
    device_tree_model: Fact[Text] | None = None
    usb_ids: Fact[tuple[UsbId, ...]] | None = None

    csi_source: Fact[Literal["nvarguscamerasrc", "libcamerasrc"]] | None = None
    video_decoder: Fact[Literal["nvv4l2decoder", "v4l2h264dec", "v4l2slh265dec"]] | None = None

    soc: Fact[Literal["t210", "t186", "t194", "t234", "t264"]] | None = None
    sm: Fact[Annotated[int, Field(ge=30, le=200)]] | None = None
    dla_cores: Fact[Annotated[int, Field(ge=0, le=8)]] | None = None
    modules: Fact[Annotated[tuple[Module, ...], Field(min_length=1)]] | None = None
    flash_configs: Fact[Annotated[tuple[Text, ...], Field(min_length=1)]] | None = None
    recovery_usb: Fact[Annotated[tuple[UsbId, ...], Field(min_length=1)]] | None = None
    chip_sku: Fact[Annotated[str, Field(pattern=r"^[0-9A-F]{2}$")]] | None = None
    l4t: Fact[tuple[Release, ...]] | None = None
    power_modes: Fact[tuple[Text, ...]] | None = None
    power_mode_default: Fact[Text] | None = None
    super_power_modes: Fact[tuple[Text, ...]] | None = None
    super_power_mode_default: Fact[Text] | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> Profile:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    def facts(self) -> dict[str, Fact[Any]]:
        """Every fact that is set, by field name, in the order of the class."""
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in values if isinstance(value, Fact)}

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """Names of the fields that nobody has confirmed."""
        return tuple(name for name, fact in self.facts().items() if fact.mark == "unconfirmed")


_JETSON_NEEDS = ("soc", "sm", "modules", "flash_configs", "recovery_usb", "l4t")
_JETSON_ONLY = (
    *_JETSON_NEEDS[:1],
    *_JETSON_NEEDS[2:],
    "dla_cores",
    "chip_sku",
    "power_modes",
    "super_power_modes",
)


def _problems(profile: Profile) -> Iterator[str]:
    """What single fields cannot tell: each as one sentence."""
    facts = profile.facts()
    if profile.family == "jetson":
        yield from (f"family 'jetson' needs {name}" for name in _JETSON_NEEDS if name not in facts)
    else:
        yield from (f"{name} belongs to family 'jetson' only" for name in _JETSON_ONLY if name in facts)
    sm = profile.sm.value if profile.sm else None
    if sm is not None and profile.sm_from == "nvml":
        yield "sm_from 'nvml' asks the card, so sm must not be given"
    if sm is not None and (lacking := set(profile.precisions.value) - set(precisions_of_sm(sm))):
        yield f"compute capability {sm} lacks {', '.join(sorted(lacking))}; it has {', '.join(precisions_of_sm(sm))}"
    if (
        "plan" in profile.formats.value
        and profile.sm_from != "nvml"
        and (sm is None or sm < FIRST_TENSORRT_SM)
    ):
        yield f"format 'plan' needs a GPU of compute capability {FIRST_TENSORRT_SM} or more (TensorRT 10), here {sm}"
    if profile.soc and profile.l4t:
        lines = L4T_LINES[profile.soc.value]
        wrong = [release for release in profile.l4t.value if int(release.partition(".")[0]) not in lines]
        if wrong:
            yield f"L4T {', '.join(wrong)} does not support {profile.soc.value}; its lines are {lines}"
    if (
        profile.dla_cores
        and profile.dla_cores.value
        and profile.soc
        and profile.soc.value not in ("t194", "t234")
    ):
        yield f"{profile.soc.value} has no DLA"
    for prefix in ("", "super_"):
        modes, default = (
            getattr(profile, f"{prefix}power_modes"),
            getattr(profile, f"{prefix}power_mode_default"),
        )
        if default is not None and (modes is None or default.value not in modes.value):
            yield f"{prefix}power_mode_default {default.value!r} is not among {prefix}power_modes"
    for name, fact in facts.items():
        if isinstance(fact.value, tuple) and len(set(fact.value)) != len(fact.value):
            yield f"{name} lists a value twice"


def load_profile(where: str | Path) -> Profile:
    """The profile of that name, or in that .toml file.

    Raises ProfileError: unknown name (with the nearest one), unreadable file, unknown key, wrong type, or facts
    that contradict each other.
    """
    path = Path(where)
    if path.suffix != _SUFFIX and path.name == str(where):
        path = _path_of(str(where))
    profile = _read(path)
    if profile.name != path.stem:
        raise ProfileError(
            f"{path}: name is {profile.name!r}, the file's is {path.stem!r}", next_step="make them equal"
        )
    return profile


def profile_names() -> tuple[str, ...]:
    """The names of all profiles that come with this installation, sorted."""
    return tuple(sorted(path.stem for path in find_data("devices", "profiles").glob(f"*{_SUFFIX}")))


def list_profiles() -> tuple[Profile, ...]:
    """Every profile of this installation, by name. Raises ProfileError where one is wrong."""
    return tuple(load_profile(name) for name in profile_names())


def match_profile(
    profiles: Sequence[Profile], *, compatible: Sequence[str], board: str, arch: str, nvidia_gpu: bool
) -> Profile | None:
    """The profile that fits what a machine says of itself; None where none does, or several do.

    compatible and board: the device tree's `compatible` strings and `model` (or DMI's product name).
    """
    tree = " ".join(compatible)
    by_module = [p for p in profiles if p.modules and any(f"p{module}" in tree for module in p.modules.value)]
    by_model = [p for p in profiles if p.device_tree_model and board.startswith(p.device_tree_model.value)]
    plain = [
        p
        for p in profiles
        if p.family == "x86" and p.arch and p.arch.value == arch and (p.sm_from == "nvml") == nvidia_gpu
    ]
    for found in (by_module, by_model, plain):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _path_of(name: str) -> Path:
    names = profile_names()
    if name in names:
        return find_data("devices", "profiles", f"{name}{_SUFFIX}")
    near = difflib.get_close_matches(name, names, n=1)
    raise ProfileError(
        f"no device profile {name!r}" + (f", did you mean {near[0]!r}?" if near else ""),
        next_step="`edgeai-devices list` shows them all",
    )


def _read(path: Path) -> Profile:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}", next_step="check the path") from error
    if len(content) > MAX_PROFILE_BYTES:
        raise ProfileError(f"{path}: more than {MAX_PROFILE_BYTES} bytes, which no device profile has")
    return parse_settings(content, Profile, where=str(path), error=ProfileError)
