"""What the device remembers of its own work."""

from edgeai.store.totals import TotalsStore

__all__ = ["TotalsStore"]
