"""The network with some of its channels unheard: same layers, same shapes, what a removal is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.groups.classes import ChannelGraph
from compress.groups.rebuild import rebuild_model
from compress.groups.remove import check_removed, fitting_wiring
from compress.groups.wiring import Call


def zero_channels(model: Any, graph: ChannelGraph, removed: frozenset[int]) -> Any:
    """A copy in which nothing listens to the channel classes `removed`: each kernel that reads them has zeros there.

    Raises PassError as remove_channels does.
    """
    check_removed(graph, removed)

    def unhear(call: Call, index: int, values: NDArray[Any]) -> NDArray[Any]:
        slot = graph.weights.get((call.name, index))
        ids = slot.axes[slot.reads] if slot is not None and slot.reads is not None else None
        if slot is None or slot.reads is None or ids is None:
            return values
        heard = np.zeros(len(ids), values.dtype)
        heard[graph.kept(ids, removed)] = 1
        return values * heard.reshape([-1 if axis == slot.reads else 1 for axis in range(values.ndim)])

    return rebuild_model(model, fitting_wiring(model, graph), change_weight=unhear)
