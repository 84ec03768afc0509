"""onnxruntime's providers for NVIDIA GPUs: CUDA, and TensorRT by way of onnxruntime. Never run on a GPU so far."""

from __future__ import annotations

from edgeai.engines.host import EngineHost
from edgeai.engines.onnx import Provider
from edgeai.errors import EngineUnavailableError

_INSTALL = (
    "pip uninstall onnxruntime, then pip install 'edgeai[onnx-gpu]'; on Jetson NVIDIA's wheel for its JetPack"
)


def cuda_provider(host: EngineHost) -> Provider:
    """CUDA. Where the memory is the CPU's too, it grows by what is asked for and not by powers of two."""
    options = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    if host.shares_memory:
        options |= {"arena_extend_strategy": "kSameAsRequested"}
    return Provider("CUDAExecutionProvider", options, "cuda", _INSTALL)


def tensorrt_provider(host: EngineHost, precision: str = "float32") -> Provider:
    """TensorRT inside onnxruntime, with plans and timings kept in the host's cache. precision: of the file.

    Raises EngineUnavailableError for a host without a cache: every start would build for minutes.
    """
    if host.cache is None:
        raise EngineUnavailableError(
            "TensorRT's engines need a folder to be kept in", next_step="give a cache folder"
        )
    folder = str(host.cache / "onnxruntime")
    options = {
        "device_id": "0",
        "trt_max_workspace_size": str(host.workspace_bytes),
        "trt_fp16_enable": str(precision in ("float16", "int8")),
        "trt_int8_enable": str(precision == "int8"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
    }
    return Provider("TensorrtExecutionProvider", options, "cuda", _INSTALL)
