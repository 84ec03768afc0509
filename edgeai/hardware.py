"""What this machine is, read and never changed: board, CPU, memory, NVIDIA GPU, cameras, microphones, libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeai import __version__
from edgeai.types import JsonValue

MAX_FACT_BYTES = 1 << 20
SMI_TIMEOUT_S = 10.0
MICROPHONE_TIMEOUT_S = 15.0

# The CPU flags that decide how fast integer and half-precision kernels run (x86: /proc/cpuinfo's flags, ARM: Features).
TELLING_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
    *("asimd", "neon", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
)

# {name shown: distributions that give it, the usual one first}
LIBRARIES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "opencv": (
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ),
    "litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-rtx"),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "paho-mqtt": ("paho-mqtt",),
    "sounddevice": ("sounddevice",),
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU as its driver names it. sm: compute capability as one number (87 is 8.7), None if not told."""

    name: str
    sm: int | None
    memory_mb: int | None
    driver: str


@dataclass(frozen=True, slots=True)
class Camera:
    """A video capture node, e.g. /dev/video0, and the name its driver gives."""

    device: str
    name: str


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. Text is empty where the machine does not tell; no serial number, no host name is read.

    board: device-tree model, else DMI's maker and product. compatible: the device tree's strings, most specific
    first. l4t: NVIDIA's release, e.g. "36.4.3". ram_mb: mebibytes the kernel has.
    """

    board: str
    compatible: tuple[str, ...]
    arch: str
    cpu: str
    cpu_cores: int
    cpu_flags: tuple[str, ...]
    ram_mb: int | None
    system: str
    kernel: str
    l4t: str
    gpus: tuple[Gpu, ...]
    cameras: tuple[Camera, ...]

    @property
    def label(self) -> str:
        """One short line for reports, e.g. "AMD EPYC, 2 cores, x86_64"."""
        return f"{self.board or self.cpu or 'unknown machine'}, {self.cpu_cores} cores, {self.arch}"


def read_hardware(root: Path = Path("/"), *, ask_gpu: bool = True) -> Hardware:
    """Read this machine, or a captured tree of its files under `root`. Never fails: what cannot be read stays empty."""
    cpu, flags = _cpu(fact_text(root / "proc/cpuinfo"))
    model = fact_text(root / "proc/device-tree/model").rstrip("\0\n")
    return Hardware(
        board=model or _dmi_board(root / "sys/class/dmi/id"),
        compatible=tuple(
            part for part in fact_text(root / "proc/device-tree/compatible").split("\0") if part.strip()
        ),
        arch=platform.machine(),
        cpu=cpu,
        cpu_cores=_usable_cores(),
        cpu_flags=flags,
        ram_mb=_ram_mb(fact_text(root / "proc/meminfo")),
        system=_system(fact_text(root / "etc/os-release")),
        kernel=platform.release(),
        l4t=read_l4t(root),
        gpus=_gpus() if ask_gpu else (),
        cameras=_cameras(root / "sys/class/video4linux"),
    )


def device_facts(hardware: Hardware | None = None) -> dict[str, JsonValue]:
    """The "device" object of every benchmark: this machine, or the `hardware` given, as JSON."""
    facts: dict[str, JsonValue] = json.loads(json.dumps(asdict(hardware or read_hardware())))
    return facts


def library_versions() -> dict[str, JsonValue]:
    """The "versions" object of every benchmark: Python, edgeai and each of LIBRARIES, null where not installed.

    Read from the installed metadata: no library is imported.
    """
    versions: dict[str, JsonValue] = {"python": platform.python_version(), "edgeai": __version__}
    for name, distributions in LIBRARIES.items():
        versions[name] = next((v for d in distributions if (v := _version(d)) is not None), None)
    return versions


def machine_key(root: Path = Path("/")) -> str:
    """A digest by which figures and built engines are known to be of this machine: board, processor, GPUs and L4T.

    Read from files alone, in about a millisecond: no driver is asked.
    """
    hardware = read_hardware(root, ask_gpu=False)
    facts = (hardware.board, hardware.arch, hardware.cpu, hardware.cpu_cores, hardware.l4t, nvidia_gpus(root))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def nvidia_gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that a driver has taken, from files alone; a Jetson's is "integrated"."""
    cards = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    names = [
        found[1] if (found := re.search(r"Model:\s*(.+)", fact_text(card))) else "unknown" for card in cards
    ]
    if not names and read_l4t(root):
        names = ["integrated"]
    return tuple(names)


def nvidia_driver(root: Path = Path("/")) -> int | None:
    """The branch of NVIDIA's desktop driver (550 of 550.54.14), from files alone; None without one."""
    found = re.search(
        r"NVRM version:.*?\s(\d{3,4})\.\d", fact_text(root / "proc/driver/nvidia/version"), re.ASCII
    )
    return int(found[1]) if found else None


def read_l4t(root: Path = Path("/")) -> str:
    """The L4T release of the machine whose files lie under `root`; empty where it is no Jetson."""
    return parse_l4t(fact_text(root / "etc/nv_tegra_release"))


def microphones() -> tuple[str, ...] | None:
    """Names of the audio inputs that PortAudio sees; None where it cannot be asked (no sounddevice, no PortAudio).

    Asked in a process of its own: PortAudio prints to the terminal while it looks, and may hang on a dead server.
    """
    script = (
        "import json, sounddevice\n"
        "print(json.dumps([d['name'] for d in sounddevice.query_devices() if d['max_input_channels'] > 0]))"
    )
    answer = _output([sys.executable, "-c", script], timeout_s=MICROPHONE_TIMEOUT_S)
    lines = answer.splitlines()
    try:
        names = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def parse_l4t(text: str) -> str:
    """The release in /etc/nv_tegra_release, e.g. "36.4.3"; empty where it does not say.

    >>> parse_l4t("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64")
    '36.4.3'
    """
    found = re.search(r"#\s*R(\d{1,4})\s*\(release\),\s*REVISION:\s*(\d{1,4}(?:\.\d{1,4})*)", text, re.ASCII)
    return f"{found[1]}.{found[2]}" if found else ""


def parse_smi(text: str) -> tuple[Gpu, ...]:
    """nvidia-smi's CSV of name, compute_cap, memory.total, driver_version; lines that do not fit are left out.

    >>> parse_smi("NVIDIA GeForce RTX 4090, 8.9, 24564, 550.54.14")[0].sm
    89
    """
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.rsplit(",", 3)]
        if len(cells) != 4 or not cells[0]:
            continue
        name, capability, memory, driver = cells
        sm = re.fullmatch(r"(\d{1,3})\.(\d)", capability, re.ASCII)
        megabytes = re.fullmatch(r"\d{1,9}", memory, re.ASCII)  # a Jetson's driver says [N/A]
        gpus.append(Gpu(name, int(sm[1] + sm[2]) if sm else None, int(memory) if megabytes else None, driver))
    return tuple(gpus)


def ask_smi(fields: str) -> str:
    """nvidia-smi's CSV of these fields, a line for each GPU, without header and units; empty where it cannot be asked."""
    return _output(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"], timeout_s=SMI_TIMEOUT_S
    )


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def fact_text(path: Path) -> str:
    """What a file of the kernel's says, its first MiB; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FACT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _output(command: list[str], *, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _cpu(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    # ARM names no model there, only the part number of its core
    name = fields.get("model name") or (f"ARM part {fields['cpu part']}" if "cpu part" in fields else "")
    return name, tuple(flag for flag in TELLING_FLAGS if flag in flags)


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def _ram_mb(meminfo: str) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d{1,15}) kB", meminfo, re.MULTILINE | re.ASCII)
    return int(found[1]) // 1024 if found else None


def _system(os_release: str) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', os_release, re.MULTILINE)
    return found[1] if found else platform.system()


def _dmi_board(dmi: Path) -> str:
    parts = (fact_text(dmi / "sys_vendor").strip(), fact_text(dmi / "product_name").strip())
    return " ".join(part for part in parts if part)


def _gpus() -> tuple[Gpu, ...]:
    return parse_smi(ask_smi("name,compute_cap,memory.total,driver_version"))


def _cameras(folder: Path) -> tuple[Camera, ...]:
    try:
        nodes = sorted(folder.glob("video*"), key=lambda node: (len(node.name), node.name))
    except OSError:
        return ()
    # index 0 is the picture; a USB camera's index 1 carries its metadata
    first = (node for node in nodes if fact_text(node / "index").strip() in ("", "0"))
    return tuple(Camera(f"/dev/{node.name}", fact_text(node / "name").strip()) for node in first)
