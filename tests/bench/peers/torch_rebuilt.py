"""The float network again in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from exchange import Exchange
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F


def channels_first(pictures: NDArray[np.float32]) -> torch.Tensor:
    """(N, H, W, C) to (N, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def build_network(exchange: Exchange) -> nn.Module:
    """With the weights copied, in eval mode; (N, C, H, W) in, logits out."""
    network = Rebuilt(exchange.layers)
    shape = exchange.layers[0]["settings"]["shape"]
    network.set_padding(shape[0], shape[1])
    for layer in exchange.layers:
        if weights := exchange.weights(layer["name"]):
            _copy(network.part(layer["name"]), layer["kind"], weights)
    return network.eval()


class Rebuilt(nn.Module):
    """Layers in the exchange's order, each fed by those that it names."""

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self._feeds = [(layer["name"], tuple(layer["inputs"])) for layer in layers]
        channels: dict[str, int] = {}
        for layer in layers:
            before = channels[layer["inputs"][0]] if layer["inputs"] else layer["settings"]["shape"][-1]
            self.parts[f"{layer['name']}_"], channels[layer["name"]] = _module(layer, before)

    def part(self, name: str) -> nn.Module:
        return self.parts[f"{name}_"]  # a layer named "class" would be no Python once exported

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: dict[str, torch.Tensor] = {}
        for name, inputs in self._feeds:
            x = self.part(name)(*[kept[other] for other in inputs] or [x])
            kept[name] = x
        return x

    def set_padding(self, height: int, width: int) -> None:
        """Keras' "same" depends on the input's size, torch's padding does not: fixed for one size, left less than right."""
        sizes: dict[str, tuple[int, int]] = {}
        for name, inputs in self._feeds:
            size = sizes[inputs[0]] if inputs else (height, width)
            part = self.part(name)
            if isinstance(part, Padded):
                size = part.set_padding(size)
            sizes[name] = size


class Padded(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.around = (0, 0, 0, 0)  # left, right, top, bottom

    def set_padding(self, size: tuple[int, int]) -> tuple[int, int]:
        sides, out = [], []
        for length, kernel, stride in zip(size, self.conv.kernel_size, self.conv.stride, strict=True):
            out.append(-(-length // stride))
            whole = max((out[-1] - 1) * stride + kernel - length, 0)
            sides.append((whole // 2, whole - whole // 2))
        (top, bottom), (left, right) = sides
        if top == bottom and left == right:
            self.conv.padding = (top, left)
        else:
            self.around = (left, right, top, bottom)
        return out[0], out[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, self.around) if any(self.around) else x)


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def _module(layer: dict[str, Any], before: int) -> tuple[nn.Module, int]:
    """The layer, and how many channels come out."""
    settings = layer["settings"]
    match layer["kind"]:
        case "Conv2D" | "DepthwiseConv2D" as kind:
            groups = before if kind == "DepthwiseConv2D" else 1
            after = settings.get("filters", before)
            conv = nn.Conv2d(
                before,
                after,
                settings["kernel_size"],
                settings["strides"],
                groups=groups,
                bias=settings["use_bias"],
            )
            return Padded(conv), after
        case "BatchNormalization":
            return nn.BatchNorm2d(before, settings["epsilon"], 1 - settings["momentum"]), before
        case "Dense":
            return nn.Linear(before, settings["units"], settings["use_bias"]), settings["units"]
        case "Activation":
            return nn.ReLU6(), before
        case "Add":
            return Sum(), before
        case "GlobalAveragePooling2D":
            return Mean(), before
        case "Dropout":
            return nn.Dropout(settings["rate"]), before
        case "InputLayer":
            return nn.Identity(), before
        case kind:
            raise ValueError(f"layer {layer['name']}: no rebuild of {kind}")


def _copy(part: nn.Module, kind: str, weights: list[NDArray[np.float32]]) -> None:
    """Keras has (height, width, in, out) and (in, out), torch (out, in, height, width) and (out, in)."""
    kernels = {"Conv2D": (3, 2, 0, 1), "DepthwiseConv2D": (2, 3, 0, 1), "Dense": (1, 0)}
    target: Any = part.conv if isinstance(part, Padded) else part
    if kind in kernels:
        weights = [weights[0].transpose(kernels[kind]), *weights[1:]]
    names = ("weight", "bias", "running_mean", "running_var")
    with torch.no_grad():
        for name, array in zip(names, weights, strict=False):
            getattr(target, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
