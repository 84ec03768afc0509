"""Audio stages: resample, log-mel features, the model's window, and keyword smoothing."""
