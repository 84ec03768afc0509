"""EdgeAI: the on-device runtime for camera detection and voice recognition."""

__version__ = "0.1.0"
