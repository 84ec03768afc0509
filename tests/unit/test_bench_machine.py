"""A machine's state and power from a tree of files, as the kernel writes them."""

from __future__ import annotations

import threading

import pytest

from edgeai.bench.machine import MachineState, machine_warnings, read_state
from edgeai.bench.power import PowerMeter, PowerSource, find_power_source, parse_smi_power


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CPU = "sys/devices/system/cpu"


def test_a_board_tells_all(tmp_path):
    files = {"proc/loadavg": "0.52 0.58 0.59 1/300 999\n"}
    for number in range(2):
        folder = f"{CPU}/cpu{number}/cpufreq"
        files |= {
            f"{folder}/scaling_governor": "schedutil\n",
            f"{folder}/scaling_driver": "cpufreq-dt\n",
            f"{folder}/scaling_cur_freq": f"{1_000_000 + number * 400_000}\n",
            f"{folder}/cpuinfo_max_freq": "1800000\n",
        }
    files |= {
        "sys/class/thermal/thermal_zone0/temp": "51234\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",  # switched off
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    state = read_state(write(tmp_path, files))
    assert state == MachineState(
        governors=("schedutil",),
        clock_driver="cpufreq-dt",
        cpu_mhz=1200.0,
        max_mhz=1800.0,
        temperatures_c=(("cpu-thermal", 51.234),),
        load_1min=0.52,
        throttle_events=2,
    )
    assert state.line == "governor schedutil, 1200 of 1800 MHz, 51 °C, load 0.5"
    assert state.to_json()["temperatures_c"] == {"cpu-thermal": 51.2}


def test_a_machine_that_tells_nothing(tmp_path):
    assert read_state(tmp_path) == MachineState()
    assert MachineState().line == "no governor told"
    broken = {"proc/loadavg": "x", f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "<unknown>", "proc/cpuinfo": "\0"}
    assert read_state(write(tmp_path, broken)).cpu_mhz is None


def test_a_virtual_machine_has_its_clock_in_cpuinfo(tmp_path):
    state = read_state(write(tmp_path, {"proc/cpuinfo": "cpu MHz\t\t: 2596.0\ncpu MHz\t\t: 2400.5\n"}))
    assert state.cpu_mhz == pytest.approx(2498.25)


@pytest.mark.parametrize(
    ("start", "warm", "end", "says"),
    [
        ({"load_1min": 1.5}, {}, {}, "busy before the bench began: load 1.5 on 4 cores"),
        ({"governors": ("powersave",), "clock_driver": "acpi-cpufreq"}, {}, {}, "governor is powersave"),
        ({}, {"cpu_mhz": 1800.0}, {"cpu_mhz": 1200.0}, "fell from 1800 to 1200 MHz"),
        ({"throttle_events": 3}, {}, {"throttle_events": 4}, "throttled while it was measured"),
        ({}, {}, {"temperatures_c": (("cpu", 91.0),)}, "cpu is at 91 °C"),
        ({}, {}, {"gpu_held": True}, "GPU's clock is held down"),
    ],
)
def test_warnings(start, warm, end, says):
    states = [MachineState(**each) for each in (start, warm, end)]
    (told,) = machine_warnings(*states, cores=4)
    assert says in told


def test_nothing_to_warn_of():
    quiet = MachineState(governors=("powersave",), clock_driver="intel_pstate", cpu_mhz=3000.0, load_1min=0.1)
    assert machine_warnings(quiet, quiet, quiet, cores=4) == []


def test_rapl_counts_joules_over_its_wrap(tmp_path):
    folder = "sys/class/powercap/intel-rapl:0"
    root = write(
        tmp_path,
        {
            f"{folder}/energy_uj": "9000000\n",
            f"{folder}/max_energy_range_uj": "10000000\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "5\n",  # a core of the package: counted there already
        },
    )
    source = find_power_source(root)
    assert source.name == "RAPL"
    assert source.energy_j() == 0
    write(root, {f"{folder}/energy_uj": "2000000\n"})
    assert source.energy_j() == pytest.approx(3.0)
    with PowerMeter(source) as meter:
        write(root, {f"{folder}/energy_uj": "4000000\n"})
        assert meter.stop() > 0
    with PowerMeter(source) as meter:
        (root / folder / "energy_uj").unlink()
        assert meter.stop() is None


def test_a_jetsons_sensor_is_volts_by_amperes(tmp_path):
    chip = "sys/class/hwmon/hwmon1"
    root = write(
        tmp_path,
        {
            f"{chip}/in1_label": "VDD_IN\n",
            f"{chip}/in1_input": "5000\n",
            f"{chip}/curr1_input": "1200\n",
            f"{chip}/in2_label": "VDD_SOC\n",
        },
    )
    source = find_power_source(root)
    assert source.name == "INA3221 VDD_IN"
    assert source.power_w() == pytest.approx(6.0)


def test_power_that_cannot_be_read_is_none(tmp_path):
    assert find_power_source(tmp_path) is None
    write(tmp_path, {"sys/class/powercap/intel-rapl:0/energy_uj": "secret"})
    assert find_power_source(tmp_path) is None


def test_a_sensor_is_sampled_until_it_is_stopped():
    twice = threading.Event()
    told = []

    def power_w():
        told.append(3.0)
        if len(told) > 1:
            twice.set()
        return 3.0

    with PowerMeter(PowerSource("x", "x", power_w=power_w)) as meter:
        assert twice.wait(10)
        assert meter.stop() == 3.0


def test_a_program_that_prints_watts(tmp_path):
    command = ("sh", "-c", "echo '[N/A]'; echo 20.5; echo 21.5")
    meter = PowerMeter(PowerSource("x", "x", command=command, parse=parse_smi_power))
    with meter:
        meter._thread.join(10)
        assert meter.stop() == 21.0
    with PowerMeter(
        PowerSource("x", "x", command=(str(tmp_path / "none"),), parse=parse_smi_power)
    ) as missing:
        assert missing.stop() is None
