"""What a precision costs in speed on this machine, where it costs any: a smaller file is not always a faster one."""

from __future__ import annotations

from collections.abc import Collection

from edgeai.bundle.manifest import Precision

# flags of x86 CPUs with int8 dot products
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_X86 = frozenset({"x86_64", "AMD64"})


def slower_note(precision: Precision, *, machine: str, cpu_flags: Collection[str]) -> str:
    """One line for people, "" where nothing speaks against it.

    machine: platform.machine(). cpu_flags: as edgeai.hardware.read_hardware has them. Figures: LiteRT 2.3 on an AMD EPYC with
    AVX2, one thread, and a MobileNet of a million parameters on a CPU with AVX512-VNNI (float32 0.71 ms).
    """
    if precision == "int16x8":
        return "int16x8 runs on reference kernels: tens of times slower than float32 (31 ms against 0.71)"
    if precision == "int4":
        return "int4 weights are unpacked at every call: a smaller file than int8, and slower"
    if machine not in _X86:
        return ""
    if precision == "dynamic":
        return "dynamic range is slower than float32 on x86 (1.01 ms against 0.71)"
    if precision == "int8" and not _DOT_PRODUCTS & set(cpu_flags):
        return (
            "int8 is no faster than float32 on this CPU, which has no int8 dot products (convolutions ran at 0.36 to "
            "0.98 of float32's speed); on ARM and on CPUs with VNNI it is"
        )
    return ""
