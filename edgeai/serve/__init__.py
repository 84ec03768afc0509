"""Models behind HTTP: a picture, a clip or a tensor in a request's body, detections, labels or keywords as JSON."""
