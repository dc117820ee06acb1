"""Durations and moments as people write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import isnan

import typer

_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
# What waits for so long or tells of so long ago is a slip of the pen; nothing here reckons with more.
_MOST_S = 100 * 365.25 * 86400.0
_DURATION = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)\s*")


def parse_duration(text: str) -> float:
    """Seconds from 90, 90s, 10m, 2h, 1h30m, 500ms, 1d. Raises typer.BadParameter."""
    rest, total_s = text.strip().lower(), 0.0
    while rest:
        part = _DURATION.match(rest)
        if part is None or part["unit"] not in _UNITS_S:
            raise typer.BadParameter(f"{text!r} is not a duration (write 90, 90s, 10m, 2h or 1h30m)")
        total_s += float(part["amount"]) * _UNITS_S[part["unit"]]
        rest = rest[part.end() :]
    if total_s <= 0:
        raise typer.BadParameter(f"{text!r} is not a duration above zero")
    if total_s > _MOST_S:
        raise typer.BadParameter(f"{text!r} is longer than 100 years")
    return total_s


def real(value: float | None) -> float | None:
    """For an option: refuses nan, which no range keeps out. Raises typer.BadParameter."""
    if value is not None and isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value


def duration(seconds: float) -> str:
    """12 ms, 4.2 s, 90 s, 5 min, 2 h 05 min, 3 d 04 h: two figures of meaning, never more."""
    size_s = abs(seconds)
    sign = "-" if seconds < 0 else ""
    if size_s < 0.0995:
        return f"{sign}{size_s * 1e3:.{1 if size_s < 0.00995 else 0}f} ms"
    if size_s < 9.95:
        return f"{sign}{size_s:.1f} s"
    if size_s < 119.5:
        return f"{sign}{size_s:.0f} s"
    minutes = round(size_s / 60)
    if minutes < 60:
        return f"{sign}{minutes} min"
    if minutes < 48 * 60:
        return f"{sign}{minutes // 60} h {minutes % 60:02d} min"
    hours = round(size_s / 3600)
    return f"{sign}{hours // 24} d {hours % 24:02d} h"


def interval(seconds: float) -> str:
    """An interval, exactly: 5 s, 0.5 s, 5 min, 1 h, 90 s."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:g} s"


def countdown(due_ts: float | None, now_ts: float) -> str:
    """How long until a moment; `now` when it has come."""
    if due_ts is None:
        return "-"
    return duration(due_ts - now_ts) if due_ts > now_ts + 0.05 else "now"


def clock_time(ts: float) -> str:
    """The local time of day, as the log lines show it: 16:30:05."""
    return f"{_local(ts):%H:%M:%S}"


def moment(ts: float) -> str:
    """A local date and time: 2025-11-17 16:30:05."""
    return f"{_local(ts):%Y-%m-%d %H:%M:%S}"


def _local(ts: float) -> datetime:
    return datetime.fromtimestamp(ts, UTC).astimezone()
