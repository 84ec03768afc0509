"""From the outbox over a transport: which message next, how many on the way, what became of it."""
