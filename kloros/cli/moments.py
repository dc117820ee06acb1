"""Moments as people write them: a time of day, a date, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

from kloros.cli.units import parse_duration
from kloros.units import US_PER_S

_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
_EPOCH = re.compile(r"\d{9,11}(\.\d+)?")
_SAMPLES = "write 10m (ago), 16:30, yesterday, 2025-11-17, 2025-11-17T16:30:05 or epoch seconds, not before 1970"
_LAST_US = 253_402_214_400 * US_PER_S  # a day before the calendar ends: in some zone it is later already


def parse_moment(text: str, now_us: int) -> int:
    """Wall microseconds from `now`, `today`, `yesterday`, 10m (ago), 16:30[:05], an ISO date or time, epoch seconds.

    Without a zone it is local time. A time of day that is still to come means yesterday's.

    Raises:
        typer.BadParameter: It is none of these, or no calendar has it.
    """
    moment_us = _read(text, now_us)
    if moment_us is None or not 0 <= moment_us <= _LAST_US:
        raise typer.BadParameter(f"{text!r} is not a moment ({_SAMPLES})")
    return moment_us


def _read(text: str, now_us: int) -> int | None:
    word = text.strip().lower()
    now = datetime.fromtimestamp(now_us / 1e6, UTC).astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}
    if word in named:
        return _us(named[word])
    try:
        if _EPOCH.fullmatch(word):
            return round(float(word) * 1e6)
        if _TIME_OF_DAY.fullmatch(word):
            moment = datetime.fromisoformat(f"{now:%Y-%m-%d}T{word.rjust(5 if len(word) < 6 else 8, '0')}").astimezone()
            return _us(moment if moment <= now else moment - timedelta(days=1))
        if "-" in word:
            return _us(datetime.fromisoformat(text.strip().replace(" ", "T", 1)).astimezone())
        return now_us - round(parse_duration(word.removesuffix("ago")) * 1e6)
    except (ValueError, OverflowError, typer.BadParameter):
        return None


def parse_window(since: str, until: str, now_us: int) -> tuple[int, int]:
    """Two moments, the earlier one first. Raises typer.BadParameter."""
    since_us, until_us = parse_moment(since, now_us), parse_moment(until, now_us)
    if since_us >= until_us:
        raise typer.BadParameter(f"{since} (--since) is not before {until} (--until)")
    return since_us, until_us


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
