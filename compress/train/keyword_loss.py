"""The losses of keyword models are those of any classifier."""

from __future__ import annotations

from compress.train.class_loss import label_loss

__all__ = ["label_loss"]
