"""Quantization-aware training: a network that rounds while it learns, as its int8 file will round."""
