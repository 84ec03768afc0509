"""A classifier of whole pictures on any backbone."""

from __future__ import annotations

from typing import Any

from compress.networks.backbone import backbone_by_name


def cnn_classifier(
    *,
    height: int,
    width: int,
    classes: int,
    backbone: str = "inverted",
    multiplier: float = 0.5,
    depth: int = 2,
    dropout: float = 0.2,
    activation: str | None = None,
) -> Any:
    """An untrained Keras model from a (height, width, 3) picture to "class", (classes,) logits.

    backbone: a name in compress.networks.backbone.BACKBONES; multiplier scales its widths, depth is its blocks a stage;
    activation: as the backbone takes it, its own where not given.
    The picture may have any size: the backbone's last map is averaged over it. Raises RecipeError for another backbone.
    """
    import keras

    picture = keras.Input((height, width, 3), name="image")
    given = {} if activation is None else {"activation": activation}
    features = backbone_by_name(backbone)(picture, multiplier=multiplier, depth=depth, **given)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(features[max(features)])
    x = keras.layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(
        picture, {"class": keras.layers.Dense(classes, name="class")(x)}, name="cnn_classifier"
    )
