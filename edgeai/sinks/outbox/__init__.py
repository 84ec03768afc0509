"""Messages that wait for delivery, on the disk: put, peek, ack."""

from edgeai.sinks.outbox.outbox import Outbox

__all__ = ["Outbox"]
