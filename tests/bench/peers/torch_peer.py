"""Torch-Pruning on the same network in torch: rounds of pruning and fine-tuning, then a long one; ONNX files come out."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from exchange import Exchange, Made, arguments, say, stopwatch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_rebuilt import build_network, channels_first

PACKAGES = ("torch-pruning", "torch", "onnx", "onnxruntime")
STEPS = 100  # that the pruner divides its way into: each takes a second, and stops close to the multiplications wanted
TEMPERATURE = 2.0
VARIANTS: dict[str, tuple[Any, bool, bool, str, str]] = {
    "l2": (
        partial(tp.importance.GroupMagnitudeImportance, p=2),
        False,
        False,
        "TP L2",
        "group L2, every layer loses the same share, labels",
    ),
    "taylor": (
        tp.importance.GroupTaylorImportance,
        True,
        True,
        "TP Taylor+KD",
        "group Taylor over all layers, distilled",
    ),
}
"""Importance, whether channels of all layers are compared, whether the whole network teaches; name and how.

The library has no distillation; the second is what someone adds who knows of it.
"""


def main() -> None:
    exchange, out, variant = arguments()
    made = Made(out, PACKAGES)
    torch.manual_seed(exchange.facts.seed)
    whole = build_network(exchange)
    made.off = exchange.check(lambda pictures: whole(channels_first(pictures)).detach().numpy())
    path = out / f"torch-{variant}-float32.onnx"
    with stopwatch() as seconds:
        if variant == "whole":
            write_onnx(whole, path, exchange)
            made.add("torch, unpruned", path, precision="float32", how="as it is", seconds=seconds())
            as_int8 = out / "torch-whole-int8.onnx"
            write_int8(path, as_int8, exchange)
            how = "onnxruntime static int8"
            made.add("ORT static", as_int8, precision="int8", how=how, seconds=seconds())
        else:
            importance, everywhere, taught, name, how = VARIANTS[variant]
            small = compress(
                copy.deepcopy(whole),
                exchange,
                importance(),
                everywhere=everywhere,
                teacher=whole if taught else None,
            )
            write_onnx(small, path, exchange)
            made.add(name, path, precision="float32", how=how, seconds=seconds())
            as_int8 = out / f"torch-{variant}-int8.onnx"
            write_int8(path, as_int8, exchange)
            made.add(
                name, as_int8, precision="int8", how=f"{how}; onnxruntime static int8", seconds=seconds()
            )
    made.write(exchange.facts)


def compress(
    network: nn.Module, exchange: Exchange, importance: Any, *, everywhere: bool, teacher: nn.Module | None
) -> nn.Module:
    """everywhere: channels of all layers are compared, else every layer loses the same share."""
    facts = exchange.facts
    example = channels_first(exchange.scaled(exchange.pictures[0, :1]))
    pruner = tp.pruner.BasePruner(
        network,
        example,
        importance=importance,
        global_pruning=everywhere,
        pruning_ratio=1.0,
        max_pruning_ratio=facts.max_removed,
        iterative_steps=STEPS,
        ignored_layers=[module for module in network.modules() if isinstance(module, nn.Linear)],
        round_to=8,
    )
    whole_macs, first = tp.utils.count_ops_and_params(network, example)[0], 0
    for number, steps in enumerate(facts.rounds, 1):
        wanted = whole_macs * facts.macs_ratio ** (number / len(facts.rounds))
        accumulate_gradients(network, exchange, first)
        for _ in range(STEPS):
            if tp.utils.count_ops_and_params(network, example)[0] <= wanted:
                break
            pruner.step()
        macs, parameters = tp.utils.count_ops_and_params(network, example)
        say(f"round {number}: {macs / whole_macs:.3f} of the multiplications, {parameters:,.0f} parameters")
        train(network, exchange, first, steps, average=0.98, teacher=teacher)
        first += steps
    train(network, exchange, first, facts.last, average=0.99, teacher=teacher)
    return network.eval()


def accumulate_gradients(network: nn.Module, exchange: Exchange, first: int) -> None:
    """Of the labels' loss on a few batches: what Taylor scores are made of."""
    network.eval()
    network.zero_grad()
    for pictures, targets in exchange.batches(first, 4):
        F.cross_entropy(network(channels_first(pictures)), torch.from_numpy(targets)).backward()


def train(
    network: nn.Module,
    exchange: Exchange,
    first: int,
    steps: int,
    *,
    average: float,
    teacher: nn.Module | None,
) -> None:
    """AdamW, a warm-up and half a cosine, averaged weights, as ours; with a teacher as in Hinton et al. 2015."""
    facts, warm = exchange.facts, max(1, steps // 20)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=facts.learning_rate, weight_decay=facts.weight_decay
    )

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)
    network.train()
    for pictures, targets in exchange.batches(first, steps):
        given, wanted = channels_first(pictures), torch.from_numpy(np.array(targets))
        logits = network(given)
        loss = F.cross_entropy(logits, wanted)
        if teacher is not None:
            with torch.no_grad():
                soft = F.softmax(teacher(given) / TEMPERATURE, 1)
            taught = TEMPERATURE**2 * F.cross_entropy(logits / TEMPERATURE, soft)
            loss = (1 - facts.teacher_share) * loss + facts.teacher_share * taught
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
    network.load_state_dict(averaged.module.state_dict())


def write_onnx(network: nn.Module, path: Path, exchange: Exchange) -> None:
    example = channels_first(exchange.scaled(exchange.pictures[0, :1]))
    network.eval()
    torch.onnx.export(
        network,
        (example,),
        path,
        input_names=["image"],
        output_names=["class"],
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def write_int8(source: Path, path: Path, exchange: Exchange) -> None:
    """onnxruntime's static quantization by its guide: pre-processed first, QDQ, int8 both, weights per channel."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._given = iter(exchange.calibration())

        def get_next(self) -> dict[str, Any] | None:
            picture = next(self._given, None)
            return None if picture is None else {"image": channels_first(picture[None]).numpy()}

    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(source, prepared)
    quantization.quantize_static(prepared, path, Reader(), per_channel=True)
    prepared.unlink()


if __name__ == "__main__":
    main()
