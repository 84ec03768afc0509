"""The main job in small, for real: a camera's own footage teaches a tiny model, which then counts and reports."""

from compress.demo.demo import run_demo

__all__ = ["run_demo"]
