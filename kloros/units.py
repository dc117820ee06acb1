"""Seconds and microseconds: moments are whole microseconds since the Unix epoch, float seconds on the wire. Pure."""

from __future__ import annotations

US_PER_S = 1_000_000


def seconds_to_us(seconds: float) -> int:
    """Seconds as whole microseconds, rounded to the nearest; exact for epoch seconds that came from `us_to_seconds`."""
    return round(seconds * US_PER_S)


def us_to_seconds(us: int) -> float:
    """Microseconds as seconds, the unit of the wire."""
    return us / US_PER_S
