"""TensorRT plans: found, built, kept."""
