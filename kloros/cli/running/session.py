"""Runs the suite, watches it, and ends it in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TextIO, cast

import kloros
from kloros.chembus.envelope import Message
from kloros.cli.client import Client
from kloros.cli.output import say
from kloros.cli.running.findings import open_findings
from kloros.cli.running.log import RunLog
from kloros.cli.running.plain import PlainView
from kloros.cli.running.stopping import StopAsked
from kloros.cli.running.suite import Suite
from kloros.cli.story.picture import Picture
from kloros.cli.units import duration, moment
from kloros.clock import Clock, SystemClock
from kloros.config import load_or_default
from kloros.daemon.guard import InstanceLock
from kloros.daemon.runner import SUITE_FILE
from kloros.daemon.suite_settings import SuiteSettings
from kloros.place import Place
from kloros.telemetry.logs import configure_logging

# How often the watcher looks up: bounds how late a Ctrl-C or the end of --seconds is noticed.
LOOK_UP_S = 0.2


class View(Protocol):
    """How a run is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, message: Message) -> None:
        """A message passed."""

    def refresh(self, picture: Picture) -> None:
        """A moment passed."""


def run_suite(seconds: float | None, is_plain: bool, stop: StopAsked) -> int:
    """Run until `stop`, or for so many seconds; returns the exit code. Raises what ended a daemon unasked."""
    clock = SystemClock()
    place = own_place()
    settings = load_or_default(place.config / SUITE_FILE, SuiteSettings)
    lock = InstanceLock(place.runtime / "run.lock", "suite", moment(clock.wall_us() / 1e6))
    try:
        log = RunLog(place.state / "run.log")
        configure_logging("json", settings.logs.level, cast(TextIO, log))
        suite = Suite(place, settings, str(log))
        picture = Picture()
        try:
            _watch(suite, place, picture, _end_s(clock, seconds), is_plain or not sys.stdout.isatty(), stop)
        finally:
            late = suite.stop()
        _say_farewell(picture, suite, log, late)
        return 0
    finally:
        lock.close()


def own_place() -> Place:
    """A person's own directories, never the installed suite's; KLOROS_*_DIR are honoured."""
    named = {field: os.environ.get(f"KLOROS_{field.upper()}_DIR") for field in ("config", "state", "runtime")}
    return replace(Place.user(), **{field: Path(value) for field, value in named.items() if value})


def _end_s(clock: Clock, seconds: float | None) -> float | None:
    return None if seconds is None else clock.monotonic_s() + seconds


def _watch(suite: Suite, place: Place, picture: Picture, end_s: float | None, is_plain: bool, stop: StopAsked) -> None:
    """Start everyone and show what passes until it is time."""
    suite.start_bus(lambda: bool(stop))
    if stop:
        return
    with Client("*", place=place, name="kloros_run") as client:
        suite.start_rest(lambda: bool(stop))
        names = ", ".join(member.zooid for member in suite.members)
        if is_plain:
            say(f"KLoROS {kloros.__version__}: {names}; bus {place.runtime}, state {place.state}. Ctrl-C ends it.")
        with _view(suite, place, is_plain, stop) as view:
            while not stop and (end_s is None or client.clock.monotonic_s() < end_s):
                for message in client.messages(LOOK_UP_S):
                    picture.add(message)
                    view.show(message)
                    if stop:
                        break
                suite.raise_failure()
                view.refresh(picture)


def _view(suite: Suite, place: Place, is_plain: bool, stop: StopAsked) -> View:
    if is_plain:
        return PlainView(suite, place)
    from kloros.cli.running.live import LiveView

    return LiveView(suite, place, stop)


def _say_farewell(picture: Picture, suite: Suite, log: RunLog, late: Sequence[str]) -> None:
    up = "" if picture.tick is None else f" after {duration(picture.tick.uptime_s)}"
    say(
        f"KLoROS ended{up}: {picture.ticks} ticks, {picture.triggers} triggers, {picture.cycle_count} cycles, "
        f"{len(open_findings(suite))} findings open{_work_done(picture)}. The daemons' log: {log}"
    )
    if late:
        print(f"kloros: these did not end in time: {', '.join(late)}", file=sys.stderr)


def _work_done(picture: Picture) -> str:
    counted = ", ".join(f"{count} {kind}" for kind, count in picture.steps.items())
    return f", {counted}" if counted else ""
