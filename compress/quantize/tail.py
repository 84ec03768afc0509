"""Outputs that join parts of unlike size stay float from the join on: one int8 scale would leave the small part a few steps.

Detectors of the YOLO kind end so: boxes that reach over tens of pixels and scores between 0 and 1 in one tensor. With the
boxes' step (0.0275 in YOLOX-nano) nearly all scores are one of a handful of values, and their order, which is all that counts,
is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compress.quantize.calibrate import Range
from compress.quantize.graph import Step, TFLiteGraph

UNLIKE = 4.0  # times wider: the other part loses two bits
JOINS = frozenset({"CONCATENATION", "PACK"})
RESHAPES = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"})


def unlike(parts: Iterable[Range]) -> bool:
    """Whether one scale for all would cost one of them two of its eight bits."""
    widths = [high - low for low, high in parts]
    return max(widths, default=0.0) > UNLIKE * min(widths, default=0.0)


def unlike_tail(graph: TFLiteGraph, ranges: Mapping[int, Range]) -> list[Step]:
    """What moves values between a join of unlike parts and the model's outputs, the join too, in order.

    ranges: what each float activation takes, as calibrate() gives them.
    """
    moves = trailing_moves(graph)
    tail: list[Step] = []
    joined: set[int] = set()
    for step in graph.steps:
        if step.number not in moves:
            continue
        parts = [ranges[t] for t in step.inputs if t in ranges]
        if joined.intersection(step.inputs) or (step.kind in JOINS and unlike(parts)):
            tail.append(step)
            joined.update(step.outputs)
    return tail


def trailing_moves(graph: TFLiteGraph) -> set[int]:
    """Numbers of the operations with nothing but moves of values between them and the model's outputs."""
    moves: set[int] = set()
    for step in reversed(graph.steps):
        readers = {reader.number for made in step.outputs for reader in graph.readers.get(made, ())}
        ends = any(made in graph.outputs for made in step.outputs)
        if step.kind in JOINS | RESHAPES and (readers or ends) and readers <= moves:
            moves.add(step.number)
    return moves
