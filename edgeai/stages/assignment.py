"""The matching of greatest total weight between two sets, without scipy."""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray


def match(weights: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs (rows (K,), columns (K,)), each row and column at most once, whose weights add up to the most.

    weights: (N, M), 0..1; a pair of weight 0 (or nan) may not match. Exact: pairs that are each other's only
    choice are taken straight away, the rest by shortest augmenting paths on the pairs that may match
    (Jonker and Volgenant, Computing 38, 1987), which stay few after gating. Rows come out in ascending order.

    >>> [part.tolist() for part in match(np.array([[0.9, 0.8], [0.8, 0.0]], np.float32))]
    [[0, 1], [1, 0]]
    """
    allowed = weights > 0.0
    per_row, per_column = allowed.sum(axis=1), allowed.sum(axis=0)
    rows, columns = np.nonzero(allowed)
    alone = (per_row[rows] == 1) & (per_column[columns] == 1)
    if not alone.all():
        picked_rows, picked_columns = _augment(rows[~alone], columns[~alone], weights)
        rows = np.concatenate([rows[alone], picked_rows])
        columns = np.concatenate([columns[alone], picked_columns])
        order = np.argsort(rows, kind="stable")
        rows, columns = rows[order], columns[order]
    return rows, columns


def _augment(
    rows: NDArray[np.intp], columns: NDArray[np.intp], weights: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The best matching over the pairs (rows[i], columns[i])."""
    edges: dict[int, list[tuple[int, float]]] = {}
    costs = (1.0 - weights[rows, columns].astype(np.float64)).tolist()
    for row, column, cost in zip(rows.tolist(), columns.tolist(), costs, strict=True):
        if row not in edges:
            edges[row] = [(-1 - row, 1.0)]
        edges[row].append((column, cost))
    matching = _Matching(edges)
    for row in edges:
        matching.add_row(row)
    pairs = sorted((row, column) for column, row in matching.row_of.items() if column >= 0)
    picked = np.asarray(pairs, np.intp).reshape(-1, 2)
    return picked[:, 0], picked[:, 1]


class _Matching:
    """The cheapest matching of the rows added so far.

    edges: {row: [(column, cost >= 0), ...]}. Every row must take a column, so each has one of its own besides, with
    a negative number and the cost of a pair of weight 0: it means "none".
    """

    def __init__(self, edges: dict[int, list[tuple[int, float]]]) -> None:
        self.row_of: dict[int, int] = {}
        self._edges = edges
        self._column_of: dict[int, int] = {}
        self._row_price = dict.fromkeys(edges, 0.0)
        self._column_price: dict[int, float] = {}

    def add_row(self, start: int) -> None:
        price, cheapest, nearest = self._column_price, math.inf, 0
        for column, cost in self._edges[start]:
            reduced = cost - price[column] if column in price else cost
            if reduced < cheapest:
                cheapest, nearest = reduced, column
        if nearest not in self.row_of:  # the usual case, and the shortest path there is
            self._row_price[start] = cheapest
            self.row_of[nearest] = start
            self._column_of[start] = nearest
        else:
            self._add_by_path(start)

    def _add_by_path(self, start: int) -> None:
        """Dijkstra over reduced costs from row `start` to the nearest free column, then swap along the path."""
        best: dict[int, float] = {}
        came_from: dict[int, int] = {}
        done: dict[int, float] = {}
        queue: list[tuple[float, int]] = []
        row, travelled = start, 0.0
        while True:
            base = travelled - self._row_price[row]
            for column, cost in self._edges[row]:
                reach = base + cost - self._column_price.get(column, 0.0)
                if column not in done and reach < best.get(column, math.inf):
                    best[column] = reach
                    came_from[column] = row
                    heapq.heappush(queue, (reach, column))
            # the own column of `start` is always free: the queue cannot run dry
            travelled, column = heapq.heappop(queue)
            while column in done:
                travelled, column = heapq.heappop(queue)
            done[column] = travelled
            if column not in self.row_of:
                break
            row = self.row_of[column]

        self._row_price[start] += travelled
        for passed, reach in done.items():
            if passed in self.row_of:
                self._row_price[self.row_of[passed]] += travelled - reach
                self._column_price[passed] = self._column_price.get(passed, 0.0) - (travelled - reach)
        while True:
            row = came_from[column]
            self.row_of[column] = row
            if row == start:
                self._column_of[row] = column
                return
            column, self._column_of[row] = self._column_of[row], column
