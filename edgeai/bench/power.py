"""Watts of a machine, from whatever of it can be asked: RAPL's energy counter, a board's sensors, NVML, tegrastats."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_S = 0.05
_READ_BYTES = 64
_STOP_S = 5.0
# what a whole module or board draws, as NVIDIA names it on Orin, Xavier and older boards
_TEGRA_TOTALS = ("VDD_IN", "POM_5V_IN", "SYS5V", "VIN_SYS_5V0")


@dataclass(frozen=True, slots=True)
class PowerSource:
    """A way to learn power. name: what is told to people. what: it measures.

    energy_j: a counter of joules that only rises; else power_w: watts now; else command: a program that prints a line again
    and again, and parse: its watts.
    """

    name: str
    what: str
    energy_j: Callable[[], float] | None = None
    power_w: Callable[[], float] | None = None
    command: tuple[str, ...] = ()
    parse: Callable[[str], float | None] | None = None


def find_power_source(root: Path = Path("/"), *, gpu: bool = False) -> PowerSource | None:
    """The best way here; None where power cannot be measured.

    gpu: of the engines measured run on an NVIDIA card: then that card is asked. On a board its whole input comes first, as
    INA3221 or tegrastats tell it; on x86 RAPL's packages, which only root may read since Linux 5.10.
    """
    if gpu and shutil.which("nvidia-smi") and not (root / "etc/nv_tegra_release").exists():
        command = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-lms", "100")
        return PowerSource("NVML", "the GPU", command=command, parse=parse_smi_power)
    board = next(_board_sensors(root), None)
    if board is not None:
        return board
    if (root / "etc/nv_tegra_release").exists() and shutil.which("tegrastats"):
        return PowerSource(
            "tegrastats", "the module", command=("tegrastats", "--interval", "100"), parse=parse_tegrastats
        )
    return _rapl(root)


class PowerMeter:
    """Mean watts between enter and `stop`. A source that fails on the way gives None.

    Counters are read twice; sensors and programs are sampled by a thread, some 20 and 10 times a second.
    """

    def __init__(self, source: PowerSource) -> None:
        self._source = source
        self._samples: list[float] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._began: tuple[float, float] | None = None

    def __enter__(self) -> PowerMeter:
        source = self._source
        try:
            if source.energy_j is not None:
                self._began = (time.monotonic(), source.energy_j())
            elif source.power_w is not None:
                self._thread = threading.Thread(target=self._sample, args=(source.power_w,), daemon=True)
            elif source.command:
                self._process = subprocess.Popen(
                    source.command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    errors="replace",
                )
                self._thread = threading.Thread(target=self._listen, daemon=True)
        except OSError:
            return self
        if self._thread is not None:
            self._thread.start()
        return self

    def stop(self) -> float | None:
        """Mean watts since enter, None where none were told."""
        if self._began is not None and self._source.energy_j is not None:
            began_s, began_j = self._began
            try:
                spent_j = self._source.energy_j() - began_j
            except OSError:
                return None
            return spent_j / (time.monotonic() - began_s) if spent_j > 0 else None
        self._end()
        return sum(self._samples) / len(self._samples) if self._samples else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._done.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _sample(self, power_w: Callable[[], float]) -> None:
        while not self._done.wait(_SAMPLE_S):
            try:
                self._samples.append(power_w())
            except (OSError, ValueError):
                return

    def _listen(self) -> None:
        process, parse = self._process, self._source.parse
        if process is None or process.stdout is None or parse is None:
            return
        for line in process.stdout:
            watts = parse(line)
            if watts is not None:
                self._samples.append(watts)


def parse_smi_power(line: str) -> float | None:
    """Watts in a line of nvidia-smi's power.draw without header and unit; None for "[N/A]".

    >>> parse_smi_power("71.25")
    71.25
    """
    found = re.fullmatch(r"\s*(\d{1,5}(?:\.\d{1,6})?)\s*", line, re.ASCII)
    return float(found[1]) if found else None


def parse_tegrastats(line: str) -> float | None:
    """Watts of the whole module in a line of tegrastats: rails are "NAME now/mean" in milliwatts, with or without unit.

    >>> parse_tegrastats("RAM 2448/7620MB CPU [3%@729] VDD_IN 4670mW/4712mW VDD_SOC 1419mW/1419mW")
    4.67
    """
    rails = dict(
        re.findall(r"\b([A-Z][A-Z0-9_]{1,30}) (\d{1,7})(?:mW)?/\d{1,7}(?:mW)?(?!\d|MB)", line, re.ASCII)
    )
    for name in _TEGRA_TOTALS:
        if name in rails:
            return int(rails[name]) / 1000
    return None


def _rapl(root: Path) -> PowerSource | None:
    """Package counters, added up. They wrap at max_energy_range_uj, within minutes at most: a wrap is added."""
    packages = []
    for folder in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*")):
        counter = folder / "energy_uj"
        if folder.name.count(":") == 1 and _readable(counter):
            packages.append((counter, _value(folder / "max_energy_range_uj")))
    if not packages:
        return None
    last = [_value(counter) for counter, _ in packages]
    total = [0.0]

    def energy_j() -> float:
        for index, (counter, wraps_at) in enumerate(packages):
            now = _value(counter)
            total[0] += now - last[index] if now >= last[index] else now + wraps_at - last[index]
            last[index] = now
        return total[0] / 1e6

    return PowerSource("RAPL", "the CPU's packages", energy_j=energy_j)


def _board_sensors(root: Path) -> Iterator[PowerSource]:
    """INA3221 and its like behind hwmon: a labelled rail of volts and amperes, or of microwatts."""
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
            try:
                rail = label.read_text(errors="replace").strip()
            except OSError:
                continue
            if rail in _TEGRA_TOTALS and _readable(volts) and _readable(amperes):
                yield PowerSource(
                    f"INA3221 {rail}",
                    "the module",
                    power_w=lambda v=volts, a=amperes: _value(v) * _value(a) / 1e6,  # type: ignore[misc]
                )


def _readable(path: Path) -> bool:
    try:
        _value(path)
    except (OSError, ValueError):
        return False
    return True


def _value(path: Path) -> float:
    with path.open("rb") as file:
        return float(file.read(_READ_BYTES))
