"""What a machine does while it is measured: governor, clocks, temperatures, load. Read from files and never changed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeai.bench.statistics import sample_warnings
from edgeai.hardware import ask_smi, fact_text
from edgeai.types import JsonValue

_CPU = "sys/devices/system/cpu"
_SMI_STATE = "clocks.sm,temperature.gpu,clocks_throttle_reasons.active"
# bits of nvidia-smi's clocks_throttle_reasons.active that say the clock is held down: software power cap, hardware
# slowdown, sync boost is none, software and hardware thermal, power brake (NVML's nvmlClocksEventReasons)
_GPU_HELD = 0x04 | 0x08 | 0x20 | 0x40 | 0x80
_BUSY = 0.3  # processors at work before anything is measured, as a share of all
_CLOCK_DROP = 0.9
_HOT_C = 85.0


@dataclass(frozen=True, slots=True)
class MachineState:
    """One look at the machine. What it does not tell is empty, None or zero.

    governors: of the CPUs, each once; clock_driver: what they drive. cpu_mhz: the mean of all CPUs now; max_mhz: the most that one can. temperatures_c: by
    the kernel's name of the zone. load_1min: processes at work, mean of a minute. throttle_events: how often the kernel or
    a Raspberry Pi's firmware says it held the clock down. gpu_*: of the first NVIDIA card.
    """

    governors: tuple[str, ...] = ()
    clock_driver: str = ""
    cpu_mhz: float | None = None
    max_mhz: float | None = None
    temperatures_c: tuple[tuple[str, float], ...] = ()
    load_1min: float | None = None
    throttle_events: int = 0
    gpu_mhz: float | None = None
    gpu_c: float | None = None
    gpu_held: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "governors": list(self.governors),
            "clock_driver": self.clock_driver,
            "cpu_mhz": None if self.cpu_mhz is None else round(self.cpu_mhz, 1),
            "max_mhz": self.max_mhz,
            "temperatures_c": {name: round(value, 1) for name, value in self.temperatures_c},
            "load_1min": self.load_1min,
            "throttle_events": self.throttle_events,
            "gpu_mhz": self.gpu_mhz,
            "gpu_c": self.gpu_c,
        }

    @property
    def line(self) -> str:
        """For people: "governor performance, 2400 of 2400 MHz, 51 °C, load 0.1"."""
        parts = [f"governor {' and '.join(self.governors)}" if self.governors else "no governor told"]
        if self.cpu_mhz is not None:
            most = f" of {self.max_mhz:.0f}" if self.max_mhz is not None else ""
            parts.append(f"{self.cpu_mhz:.0f}{most} MHz")
        if self.temperatures_c:
            parts.append(f"{max(value for _, value in self.temperatures_c):.0f} °C")
        if self.gpu_mhz is not None:
            parts.append(f"GPU {self.gpu_mhz:.0f} MHz")
        if self.load_1min is not None:
            parts.append(f"load {self.load_1min:.1f}")
        return ", ".join(parts)


def read_state(root: Path = Path("/"), *, ask_gpu: bool = False) -> MachineState:
    """Look at this machine, or at a captured tree of its files under `root`. Never fails. ask_gpu: run nvidia-smi too."""
    frequencies = sorted((root / _CPU).glob("cpu[0-9]*/cpufreq"))
    governors = dict.fromkeys(_text(each / "scaling_governor") for each in frequencies)
    mhz = [value / 1000 for each in frequencies if (value := _number(each / "scaling_cur_freq")) is not None]
    if not mhz:
        found = re.findall(
            r"^cpu MHz\s*:\s*(\d{1,6}(?:\.\d+)?)", _text(root / "proc/cpuinfo"), re.M | re.ASCII
        )
        mhz = [float(each) for each in found]
    most = [value / 1000 for each in frequencies if (value := _number(each / "cpuinfo_max_freq")) is not None]
    load = _text(root / "proc/loadavg").split()
    gpu = parse_gpu_state(ask_smi(_SMI_STATE)) if ask_gpu else (None, None, False)
    return MachineState(
        governors=tuple(name for name in governors if name),
        clock_driver=_text(frequencies[0] / "scaling_driver") if frequencies else "",
        cpu_mhz=sum(mhz) / len(mhz) if mhz else None,
        max_mhz=max(most) if most else None,
        temperatures_c=_temperatures(root),
        load_1min=_float(load[0]) if load else None,
        throttle_events=_throttle_events(root),
        gpu_mhz=gpu[0],
        gpu_c=gpu[1],
        gpu_held=gpu[2],
    )


def machine_warnings(
    start: MachineState, warm: MachineState, end: MachineState, *, cores: int | None = None
) -> list[str]:
    """What of the machine's state makes figures doubtful. start: before anything ran; warm: at work; end: at work, at the end."""
    told = []
    cores = cores or os.cpu_count() or 1
    if start.load_1min is not None and start.load_1min > _BUSY * cores:
        told.append(
            f"the machine was busy before the bench began: load {start.load_1min:.1f} on {cores} cores"
        )
    slow = [name for name in start.governors if name in ("powersave", "conservative")]
    # where the processor chooses its clock itself, "powersave" is a name for that
    if slow and "pstate" not in start.clock_driver:
        told.append(f"the governor is {slow[0]}: clocks stay low or rise late")
    if warm.cpu_mhz and end.cpu_mhz and end.cpu_mhz < _CLOCK_DROP * warm.cpu_mhz:
        told.append(f"the CPU's clock fell from {warm.cpu_mhz:.0f} to {end.cpu_mhz:.0f} MHz")
    if end.throttle_events > start.throttle_events:
        told.append("the CPU was throttled while it was measured, the kernel says")
    hot = [(name, value) for name, value in end.temperatures_c if value >= _HOT_C]
    if hot:
        told.append(f"{hot[0][0]} is at {hot[0][1]:.0f} °C")
    if end.gpu_held:
        told.append("the GPU's clock is held down for power or heat, nvidia-smi says")
    return told


def bench_notes(start: MachineState, samples: Mapping[str, Sequence[float]]) -> list[str]:
    """Warnings at the end of a bench that looked at the machine once before, and of its samples, by figure."""
    told = machine_warnings(start, start, read_state())
    for name, values in samples.items():
        told += sample_warnings(name, values)
    return [f"warning: {line}" for line in told]


def parse_gpu_state(text: str) -> tuple[float | None, float | None, bool]:
    """(clock in MHz, temperature in °C, held down) of the first card in nvidia-smi's CSV without header and units.

    >>> parse_gpu_state("1980, 61, 0x0000000000000004")
    (1980.0, 61.0, True)
    >>> parse_gpu_state("[N/A], 45, [N/A]")
    (None, 45.0, False)
    """
    cells = [cell.strip() for cell in text.partition("\n")[0].split(",")]
    if len(cells) != 3:
        return None, None, False
    reasons = cells[2] if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cells[2]) else "0x0"
    return _float(cells[0]), _float(cells[1]), bool(int(reasons, 16) & _GPU_HELD)


def _temperatures(root: Path) -> tuple[tuple[str, float], ...]:
    found = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        # a zone that is switched off says nothing, or nonsense below zero
        if value is not None and 0 < value < 200_000:
            found.append((_text(zone / "type") or zone.name, value / 1000))
    return tuple(found)


def _throttle_events(root: Path) -> int:
    counts = [
        int(value)
        for each in (root / _CPU).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        if (value := _number(each)) is not None
    ]
    # the Pi's firmware: bits 0 to 3 are what is held down now (raspberrypi.com documentation of vcgencmd get_throttled)
    pi = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    held = int(pi, 16) & 0xF if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", pi) else 0
    return sum(counts) + held.bit_count()


def _text(path: Path) -> str:
    return fact_text(path).strip(" \n\0")


def _number(path: Path) -> float | None:
    return _float(_text(path))


def _float(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", text, re.ASCII) else None
