"""Networks of other tools as Keras networks, which every pass takes: SavedModel and ONNX, by way of a float TFLite graph."""
