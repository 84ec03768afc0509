"""Engines at work for many cameras: shared fairly, the newest frame first, replaced where they hang."""
