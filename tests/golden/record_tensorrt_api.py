"""What the real bindings of TensorRT's releases have, written down: tests/golden/tensorrt_api.json.

    python tests/golden/record_tensorrt_api.py FOLDER [--write]

FOLDER holds the bindings' wheels from PyPI (`make trt-api` fetches them). Their one native module links NVIDIA's libraries,
which PyPI has not; it is loaded beside empty ones, made here with gcc, that have the dozen functions it asks for. Nothing can be built or
run with it, but all names and signatures are there: they are facts, no file of NVIDIA's is kept.

8.5 has no wheel on PyPI: its table is 8.6.1's less NEW_IN_86, by hand.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TABLE = Path(__file__).with_name("tensorrt_api.json")
WHEELS = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.13.3": "tensorrt-cu12-bindings==10.13.3.9",
    "10.16.1": "tensorrt-cu12-bindings==10.16.1.11",
    "11.4.0": "tensorrt-cu12-bindings==11.4.0.106",
}
BY_HAND = "8.5.2"
# what an engine and a builder are made of; of these all members are recorded
CLASSES = (
    *(
        "Builder",
        "INetworkDefinition",
        "IBuilderConfig",
        "IOptimizationProfile",
        "ITimingCache",
        "IHostMemory",
    ),
    *("OnnxParser", "ParserError", "ILogger", "IProgressMonitor", "ILayer", "ITensor"),
    *("Runtime", "ICudaEngine", "IExecutionContext"),
)
ENUMS = (
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "DataType", "DeviceType"),
    *("TensorIOMode", "TensorLocation"),
)
FUNCTIONS = ("init_libnvinfer_plugins",)
# what is, or may be, new in 8.6 by its release notes: rather too much than too little, since our code may use none of it
NEW_IN_86 = {
    "IBuilderConfig": (
        *("builder_optimization_level", "hardware_compatibility_level", "max_aux_streams"),
        *("plugins_to_serialize", "get_preview_feature", "set_preview_feature"),
    ),
    "IExecutionContext": ("set_aux_streams", "nvtx_verbosity"),
    "ICudaEngine": ("hardware_compatibility_level", "num_aux_streams", "get_tensor_components_per_element"),
    "Runtime": ("engine_host_code_allowed", "temporary_directory", "tempfile_control_flags", "load_runtime"),
    "BuilderFlag": ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "FP8"),
    "DataType": ("FP8",),
}
_ASKED_FOR = re.compile(r"create(Infer|Nv)|get(Builder|NvOnnx|Plugin)|initLib|_ZN11nvuff|_ZN14nvcaffe")


def record(wheel: Path) -> dict[str, dict[str, object]]:
    """{class: {member: "property", "value", or its overloads, each a list of parameters}} of one wheel."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("/tensorrt.so"))
            archive.extract(name, folder)
        native = Path(folder) / name
        for library in _stand_ins(native):
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
        spec = importlib.util.spec_from_file_location("tensorrt", native)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = {
            name: _members(getattr(module, name)) for name in (*CLASSES, *ENUMS) if hasattr(module, name)
        }
        functions = {
            name: _member(getattr(module, name), name) for name in FUNCTIONS if hasattr(module, name)
        }
        return found | {"tensorrt": functions}


def _stand_ins(native: Path) -> list[Path]:
    told = subprocess.run(["readelf", "-d", native], capture_output=True, text=True, check=True).stdout
    asked = subprocess.run(
        ["nm", "-D", "--undefined-only", native], capture_output=True, text=True, check=True
    )
    names = [line.split()[-1] for line in asked.stdout.splitlines()]
    source = native.with_name("empty.c")
    source.write_text("".join(f"void *{n}(void) {{ return 0; }}\n" for n in names if _ASKED_FOR.match(n)))
    made = []
    for library in re.findall(r"NEEDED.*\[(libnv[^\]]*)\]", told):
        place = native.with_name(library)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", place, f"-Wl,-soname,{library}", source], check=True)
        made.append(place)
    return made


def _members(kind: type) -> dict[str, object]:
    if hasattr(kind, "__members__"):
        return {name: int(value) for name, value in kind.__members__.items()}
    names = [name for name in dir(kind) if not name.startswith("_") or name == "__init__"]
    return {name: _member(getattr(kind, name), name) for name in names}


def _member(value: object, name: str) -> object:
    if not callable(value):
        return "property"
    overloads = re.findall(rf"^(?:\d+\. )?{name}\((.*)\)(?: ->.*)?$", value.__doc__ or "", re.MULTILINE)
    return [_parameters(each) for each in overloads if each != "*args, **kwargs"]


def _parameters(text: str) -> list[str]:
    """Names, those with a default marked by "=": "self: T, flags: int = 0" -> ["self", "flags="]."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [
        f"{part.partition(':')[0].strip()}{'=' if ' = ' in part else ''}" for part in parts if part.strip()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--write", action="store_true", help="write the table; else compare with it")
    parser.add_argument(
        "--wheels", action="store_true", help="print what FOLDER must hold, as pip's requirements"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # a process loads one release
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(record(arguments.one)))
        return 0
    if arguments.wheels or arguments.folder is None:
        print("\n".join(WHEELS.values()))
        return 0
    table = {}
    for release, requirement in WHEELS.items():
        name, _, version = requirement.partition("==")
        (wheel,) = arguments.folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
        command = [sys.executable, __file__, str(arguments.folder), "--one", str(wheel)]
        table[release] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    table[BY_HAND] = {
        name: {m: how for m, how in members.items() if m not in NEW_IN_86.get(name, ())}
        for name, members in table["8.6.1"].items()
    }
    text = json.dumps(table, sort_keys=True, separators=(",", ":")).replace('"},"', '"},\n"') + "\n"
    if arguments.write:
        TABLE.write_text(text)
        return 0
    same = TABLE.read_text() == text
    print(f"{TABLE.name}: {', '.join(WHEELS)}: {'as recorded' if same else 'the real bindings differ'}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
