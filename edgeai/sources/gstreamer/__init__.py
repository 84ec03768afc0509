"""Cameras through GStreamer: CSI, hardware decoders, and pipelines of the user's own."""
