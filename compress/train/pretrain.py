"""Self-supervised pre-training: a backbone learns from pictures without labels to find places again.

What that is worth differs, so measure it (tests/bench/bench_pretrain.py). On about 90 of rice_weeds' training pictures,
measured on others of them, 1500 steps made a plain-detector's loss 0.04 lower after 300 steps of training (2.02 to 1.98, 1.99
to 1.94), and its AP50 no better: 0.231 after 0.234, gain -0.004 (-0.038 to 0.043), one seed, 89 pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from compress.train.batches import Batch
from compress.train.fit import FitSettings, fit
from compress.train.pretrain_loss import POOLED, matched_rows, view_loss
from compress.train.pretrain_views import ViewSettings, make_views
from edgeai.bundle.manifest import ImageInput
from edgeai.errors import DataError, PassError, first_line

MIN_PICTURES = 8
# below this mean standard deviation of unit embeddings (1 = evenly spread) they are as good as one and the same
COLLAPSED = 0.1
PROBE_SEED = 0x9E3779B9
PROBE_PICTURES = 16


class PretrainSettings(FitSettings):
    """How to pre-train; what FitSettings has, and:

    batch: pictures, each of which is seen twice. view: a side of a view, as a fraction of the network's picture, rounded to
    whole cells; smaller is faster. width: of the embeddings that are compared, which are thrown away afterwards.
    temperature: of the comparison. pooled_share: how much of the loss is about whole views, the rest is about places in
    them. views: how the two looks differ.
    """

    batch: Annotated[int, Field(ge=2)] = 16
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    average: Annotated[float, Field(ge=0, lt=1)] = 0.98
    view: Annotated[float, Field(gt=0, le=1)] = 0.5
    width: Annotated[int, Field(ge=8, le=4096)] = 64
    temperature: Annotated[float, Field(gt=0, le=10)] = 0.2
    pooled_share: Annotated[float, Field(ge=0, le=1)] = 0.3
    views: ViewSettings = ViewSettings()


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """losses: one a step. spread: of the embeddings, 0 = all the same, about 1 = evenly spread.

    matched: the fraction of places that the features, without any head, find again among all places of PROBE_PICTURES
    pictures seen differently, after; matched_before: before; by_chance: by guessing. pictures: looked at.
    """

    losses: list[float] = field(repr=False)
    spread: float
    matched: float
    matched_before: float
    by_chance: float
    pictures: int


def pretrain(
    network: Any,
    pictures: Sequence[Path],
    spec: ImageInput,
    settings: PretrainSettings,
    *,
    description: str,
    checkpoint: Path | None = None,
) -> PretrainResult:
    """Train the backbone of `network` in place, on pictures alone: the layers that all its outputs are computed from.

    What only some outputs need, a detector's neck and heads, learns along in a copy and stays as it was. network: a
    functional Keras model on pictures of `spec`, a detector or a classifier. checkpoint: a file that a killed training
    goes on from.

    Raises DataError for too few pictures or a file that is none; PassError for a network without feature maps, a view that
    it cannot take, a loss that diverges, or embeddings that collapse (the network is then as it was).
    """
    import keras

    if len(pictures) < MIN_PICTURES:
        raise DataError(
            f"{description}: {len(pictures)} pictures are too few to tell one from another, at least {MIN_PICTURES} are needed",
            next_step="give more in [[data.unlabelled]]",
        )
    settings = settings.model_copy(update={"batch": min(settings.batch, len(pictures))})
    maps = feature_maps(network)
    body = keras.Model(network.inputs[0], maps)
    look = _at_size(body, spec, settings.view, description)
    height, width = (int(side) for side in look.inputs[0].shape[1:3])
    make = make_views(pictures, spec, settings.views, height=height, width=width, batch=settings.batch)
    probe = make_views(
        pictures, spec, settings.views, height=height, width=width, batch=min(PROBE_PICTURES, len(pictures))
    )(np.random.default_rng(PROBE_SEED))
    before = _matched(look, probe)
    embedder = _embedder(look, settings.width)

    def loss(outputs: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        return view_loss(
            outputs,
            batch["targets"],
            maps=tuple(maps),
            pooled_share=settings.pooled_share,
            temperature=settings.temperature,
        )

    told = fit(embedder, make, loss, settings, description=description, checkpoint=checkpoint)
    spread = _spread(embedder, probe["inputs"])
    if spread < COLLAPSED:
        raise PassError(
            f"{description}: the embeddings collapsed, all pictures look the same to the network (spread {spread:.3f}, "
            f"at least {COLLAPSED} is expected)",
            next_step="check that the pictures differ, or lower learning_rate",
        )
    for layer in backbone_layers(network):
        layer.set_weights(look.get_layer(layer.name).get_weights())
    points = settings.views.points**2 * (len(probe["inputs"]) // 2)
    return PretrainResult(told.losses, spread, _matched(look, probe), before, 1 / points, len(pictures))


def feature_maps(network: Any) -> dict[str, Any]:
    """The last feature map that all outputs of one size are computed from, by the name of its layer: (B, h, w, C) each.

    For a grid detector one a stride, before box, class and object part; for a classifier the one before the pooling.
    Raises PassError where there is none, or the input is no picture.
    """
    if len(network.inputs) != 1 or len(network.inputs[0].shape) != 4 or network.inputs[0].shape[-1] != 3:
        raise PassError(
            "pretrain: the network does not look at colour pictures",
            next_step="take pretrain out of the recipe",
        )
    groups: dict[tuple[int, ...], list[Any]] = {}
    for output in network.outputs:
        shape = tuple(output.shape)
        groups.setdefault(shape[1:3] if len(shape) == 4 else (), []).append(output)
    found: dict[str, Any] = {}
    for outputs in groups.values():
        before = [_tensors_before(output) for output in outputs]
        shared = set(before[0]).intersection(*before[1:]) - {id(network.inputs[0])}
        maps = [t for key, t in before[0].items() if key in shared and len(t.shape) == 4]
        if not maps:
            raise PassError(
                "pretrain: the network's outputs share no feature map before them",
                next_step="take pretrain out of the recipe",
            )
        found[maps[-1]._keras_history.operation.name] = maps[-1]
    return dict(sorted(found.items(), key=lambda item: -item[1].shape[1] * item[1].shape[2]))


def backbone_layers(network: Any) -> list[Any]:
    """The layers with weights that every output is computed from, in the network's order: what `pretrain` changes.

    Of a detector with a top-down neck that is the backbone and the first step of the neck. Raises as `feature_maps`.
    """
    before = [_tensors_before(output) for output in network.outputs]
    before += [_tensors_before(features, itself=True) for features in feature_maps(network).values()]
    shared = set(before[0]).intersection(*before[1:])
    used: dict[str, bool] = {}
    for key, tensor in (item for tensors in before for item in tensors.items()):
        name = tensor._keras_history.operation.name
        # a layer that is used a second time, where only some outputs need it, is theirs
        used[name] = used.get(name, True) and key in shared
    return [layer for layer in network.layers if layer.weights and used.get(layer.name, False)]


def _tensors_before(output: Any, *, itself: bool = False) -> dict[int, Any]:
    """Every tensor that `output` is computed from, by identity, each after those that it needs itself."""
    order: dict[int, Any] = {}
    pending = [(output, False)]
    while pending:
        tensor, ready = pending.pop()
        if id(tensor) in order:
            continue
        if ready:
            order[id(tensor)] = tensor
            continue
        pending.append((tensor, True))
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        pending.extend((t, False) for t in node.input_tensors)
    if not itself:
        del order[id(output)]
    return order


def _at_size(body: Any, spec: ImageInput, fraction: float, description: str) -> Any:
    """The network up to its maps, with weights of its own, for views whose sides are `fraction` of the picture's, in whole cells."""
    import keras

    sides = []
    for axis, side in ((1, spec.height), (2, spec.width)):
        cells = min(int(tensor.shape[axis]) for tensor in body.output.values())
        cell = -(-side // cells)
        sides.append(max(2, round(side * fraction / cell)) * cell if fraction < 1 else side)
    picture = keras.Input((*sides, 3), name="view")
    try:
        look = keras.models.clone_model(body, input_tensors=picture)
        look.set_weights(body.get_weights())
    except Exception as error:  # a layer of one size, and Keras has many ways to say so
        raise PassError(
            f"{description}: the network cannot look at {sides[1]} x {sides[0]} pixels: {first_line(error)[:160]}",
            next_step="set view = 1.0",
        ) from error
    return look


def _embedder(look: Any, width: int) -> Any:
    """What `look` sees with a small head on each map and one on all of them pooled."""
    import keras

    layers = keras.layers
    outputs = {}
    for name, features in look.output.items():
        x = layers.Conv2D(2 * width, 1, use_bias=False)(features)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.95)(x))
        outputs[name] = layers.Conv2D(width, 1)(x)
    pooled = [layers.GlobalAveragePooling2D()(features) for features in look.output.values()]
    x = layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    x = layers.Dense(2 * width, use_bias=False)(x)
    x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.95)(x))
    outputs[POOLED] = layers.Dense(width)(x)
    return keras.Model(look.inputs[0], outputs)


def _spread(embedder: Any, views: NDArray[np.float32]) -> float:
    """The least of the embeddings' mean standard deviations over places, unit vectors times the root of their width."""
    # as in training, by the statistics of the batch: after few steps the averaged ones are far off
    embedded, _ = embedder.stateless_call(
        embedder.trainable_variables, embedder.non_trainable_variables, views, training=True
    )
    spreads = []
    for value in embedded.values():
        rows = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12
        spreads.append(float(rows.std(0).mean() * np.sqrt(rows.shape[1])))
    return min(spreads)


def _matched(look: Any, probe: Batch) -> float:
    """How many places the features of all maps together find again in the other view, by the nearest cosine."""
    maps = look(probe["inputs"], training=False)
    sides: list[list[NDArray[np.float32]]] = [[], []]
    for features in maps.values():
        pair = [np.asarray(rows) for rows in matched_rows(features, probe["targets"])]
        whole = np.concatenate(pair)
        mean, std = whole.mean(0), whole.std(0) + 1e-6
        for side, rows in zip(sides, pair, strict=True):
            side.append((rows - mean) / std)
    first, second = (np.concatenate(side, 1) for side in sides)
    first, second = (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12) for rows in (first, second))
    return float(((first @ second.T).argmax(1) == np.arange(len(first))).mean())
