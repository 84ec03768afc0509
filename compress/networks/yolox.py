"""A YOLOX detector from its ONNX file, cut before the boxes are decoded, with only the classes that are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.networks.onnx_graph import Cut, OnnxGraph


def yolox_from_onnx(
    path: Path,
    *,
    height: int,
    width: int,
    keep_classes: Sequence[int],
    strides: Sequence[int] = (8, 16, 32),
    activation: str = "silu",
) -> Any:
    """A trainable Keras model with outputs box_<s>, object_<s> and class_<s> (logits), from a file that Megvii's exporter
    wrote (it keeps the names of the prediction layers). height and width are multiples of the largest stride.

    Raises DataMissingError or DataError for a file that is absent or something else.
    """
    graph = OnnxGraph(path)
    cuts: list[Cut] = []
    for level, stride in enumerate(strides):
        for part, name in (("reg", "box"), ("obj", "object"), ("cls", "class")):
            channels = tuple(keep_classes) if part == "cls" else None
            cuts.append(
                Cut(graph.conv_output(f"head.{part}_preds.{level}.weight"), f"{name}_{stride}", channels)
            )
    return graph.build(height=height, width=width, cuts=cuts, activation=activation)
