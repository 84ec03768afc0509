"""A subscriber for people: what devices report, decoded, with latency, duplicates and gaps."""
