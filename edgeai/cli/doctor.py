"""`edgeai doctor`: what can run on this machine, what is missing, and the command that mends it."""

from __future__ import annotations

import ctypes.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from edgeai.bundle import load_bundle
from edgeai.cli.host import find_profile, this_host
from edgeai.clock import clock_synced
from edgeai.console import print_json
from edgeai.data import data_root
from edgeai.engines import EngineHost, check_library, order_candidates
from edgeai.engines.cuda import load_cuda
from edgeai.engines.plans.library import load_tensorrt
from edgeai.errors import EdgeError, EngineUnavailableError, ProfileError
from edgeai.hardware import Hardware, device_facts, library_versions, microphones, read_hardware
from edgeai.profile import L4T_LINES, Profile
from edgeai.types import JsonValue

State = Literal["ok", "absent", "missing"]
Versions = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Check:
    """One part. ok: works here. absent: not here, and not needed by all. missing: the runtime cannot do without."""

    name: str
    state: State
    detail: str
    fix: str = ""


def doctor(json_output: bool) -> int:
    """Print what can run here; 1 where something that the runtime cannot do without is missing, else 0."""
    hardware, versions = read_hardware(), library_versions()
    profile, warning = _profile(hardware)
    checks = [*examine(hardware, versions, find=shutil.which, listen=microphones), warning]
    engines = list(chosen_engines(this_host()))
    ok = all(check.state != "missing" for check in checks)
    if json_output:
        print_json(
            {
                "ok": ok,
                "profile": profile.name if profile else None,
                "device": device_facts(hardware),
                "versions": versions,
                "checks": [asdict(check) for check in checks],
                "engines": {check.name: check.detail for check in engines},
            }
        )
        return 0 if ok else 1
    print(hardware.label)
    for check in checks:
        print(f"  {check.state:8}{check.name:20}{check.detail}")
        if check.fix:
            print(f"{'':30}fix: {check.fix}")
    print("engines")
    for check in engines:
        print(f"  {check.state:8}{check.name:20}{check.detail}")
    print("ready" if ok else "not ready: mend what is missing")
    return 0 if ok else 1


def examine(
    hardware: Hardware,
    versions: Versions,
    *,
    find: Callable[[str], str | None],
    listen: Callable[[], tuple[str, ...] | None],
) -> Iterator[Check]:
    """Each part of the runtime, in the order of a frame's journey. `find` looks a program up on PATH."""
    yield _library(
        "TFLite models", versions, "litert", "tflite-runtime", "tensorflow", fix="pip install ai-edge-litert"
    )
    yield _library("ONNX models", versions, "onnxruntime", needed=False, fix="pip install 'edgeai[onnx]'")
    if hardware.gpus or hardware.l4t:
        yield _tried("TensorRT", lambda: f"TensorRT {load_tensorrt().text}")
        yield _tried("CUDA", lambda: "{0.name}, compute capability {0.sm}".format(load_cuda().gpu()))
    yield _library("video", versions, "opencv", fix="pip install opencv-python-headless")
    cameras = ", ".join(f"{camera.device} {camera.name}".strip() for camera in hardware.cameras)
    yield Check(
        "cameras", "ok" if cameras else "absent", cameras or "none at /dev/video*; files and RTSP work"
    )
    yield _microphone(versions, listen)
    yield _library("MQTT", versions, "paho-mqtt", fix="pip install paho-mqtt")
    broker = find("mosquitto") or find("/usr/sbin/mosquitto")
    yield Check(
        "MQTT broker",
        "ok" if broker else "absent",
        broker or "none here; events may go to another machine's",
        "" if broker else "sudo apt-get install -y mosquitto",
    )
    yield _library(
        "compressing models", versions, "tensorflow", needed=False, fix="pip install 'edgeai[compress]'"
    )
    synced = clock_synced()
    detail = {
        True: "set by the network",
        False: "not yet set by the network",
        None: "not known: systemd-timesyncd does not run here",
    }[synced]
    fix = "sudo systemctl enable --now systemd-timesyncd" if synced is False else ""
    yield Check("clock", "ok" if synced else "absent", detail, fix)
    models = _zoo()
    yield Check(
        "models at hand", "ok" if models else "absent", ", ".join(models) or "none; give --bundle a folder"
    )


def _library(name: str, versions: Versions, *libraries: str, fix: str, needed: bool = True) -> Check:
    for library in libraries:
        if versions[library] is not None:
            return Check(name, "ok", f"{library} {versions[library]}")
    return Check(name, "missing" if needed else "absent", f"no {libraries[0]}", fix)


def chosen_engines(host: EngineHost) -> Iterator[Check]:
    """Which engine each zoo model would be run by on this host, and why; nothing is opened or built."""
    for name in _zoo():
        try:
            bundle = load_bundle(name, verify=False)
            order = order_candidates(bundle, host=host)
        except EdgeError as error:
            yield Check(name, "absent", str(error))
            continue
        passed = []
        for candidate in order.candidates:
            try:
                check_library(candidate.kind, host)
            except EngineUnavailableError:
                passed.append(candidate.label)
                continue
            without = f"; without a library: {', '.join(passed)}" if passed else ""
            yield Check(name, "ok", f"{candidate.label}, by {order.reason}{without}")
            break
        else:
            yield Check(name, "absent", "no library here runs any of its files")


def _zoo() -> list[str]:
    return sorted(path.parent.name for path in data_root().glob("models/*/manifest.json"))


def _tried(name: str, ask: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", ask())
    except EngineUnavailableError as error:
        told, _, fix = str(error).partition("; ")
        return Check(name, "absent", told, error.next_step or fix)


def _microphone(versions: Versions, listen: Callable[[], tuple[str, ...] | None]) -> Check:
    if versions["sounddevice"] is None:
        return Check("microphones", "absent", "no sounddevice", "pip install sounddevice")
    names = listen()
    if names is None:
        if ctypes.util.find_library("portaudio") is None:
            return Check("microphones", "absent", "no PortAudio", "sudo apt-get install -y libportaudio2")
        return Check("microphones", "absent", "PortAudio does not answer")
    return Check("microphones", "ok" if names else "absent", ", ".join(names[:4]) or "none; sound files work")


def _profile(hardware: Hardware) -> tuple[Profile | None, Check]:
    try:
        profile = find_profile(hardware, nvidia_gpu=bool(hardware.gpus))
    except (ProfileError, FileNotFoundError) as error:
        return None, Check("device profile", "absent", str(error))
    if profile is None:
        return None, Check("device profile", "absent", "none fits; `edgeai-devices list` shows what is known")
    detail = f"{profile.name} ({('run on ' + profile.tested) if profile.tested else 'never run on a board'})"
    if hardware.l4t and profile.soc:
        lines = L4T_LINES[profile.soc.value]
        if int(hardware.l4t.partition(".")[0]) not in lines:
            detail += f"; L4T {hardware.l4t} is new to us (known lines: {', '.join(map(str, lines))})"
    return profile, Check("device profile", "ok", detail)
