"""Bundles: the only thing that crosses from the workstation to a device."""

from edgeai.bundle.bundle import Bundle, load_bundle
from edgeai.bundle.write import write_bundle

__all__ = ["Bundle", "load_bundle", "write_bundle"]
