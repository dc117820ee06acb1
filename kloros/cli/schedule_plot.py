"""`kloros schedule plot`: a timeline of what was due, emitted and run; or of what will be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import say
from kloros.cli.schedule_lint import FileArgument, suite_schedule
from kloros.cli.units import real

if TYPE_CHECKING:
    from kloros.cli.plotting.lanes import Picture


def plot(
    file: FileArgument = None,
    since: Annotated[str, typer.Option(metavar="WHEN", help="From when on: 10m (ago), 16:30.")] = "10m",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Up to when.")] = "now",
    simulate: Annotated[
        float | None,
        typer.Option(
            "--simulate", metavar="MINUTES", help="Play a schedule instead.", min=0.1, max=24 * 366 * 60, callback=real
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a PNG file instead.")] = None,
    width: Annotated[int, typer.Option(help="Columns; 0: the terminal's.", min=0, max=1000)] = 0,
) -> int:
    """Draw a timeline, one line per entry: of the record of the last minutes, or with --simulate of a schedule file."""
    picture = _simulated(file, simulate) if simulate is not None or file is not None else _recorded(since, until)
    if png is not None:
        from kloros.cli.plotting.png import save

        save(picture, png)
        say(f"{png}: {len(picture.lanes)} entries, at most {_beats(picture.peak)} in any second")
        return 0
    from kloros.cli.plotting.terminal import draw

    say(picture.title)
    if not picture.lanes:
        say("nothing was due, and nothing ran")
        return 0
    for line in draw(picture, width or shutil.get_terminal_size((120, 24)).columns):
        say(line)
    say(f"at most {_beats(picture.peak)} in any second")
    return 0


def _simulated(file: Path | None, minutes: float | None) -> Picture:
    from kloros.cli.moments import parse_moment
    from kloros.cli.plotting.lanes import simulated
    from kloros.cli.schedule_simulate import play
    from kloros.clock import SystemClock
    from kloros.orchestration.schedule_config import load_schedule

    path, minutes = file or suite_schedule(), minutes or 10.0
    from_us = parse_moment("today", SystemClock().wall_us())
    beats = play(load_schedule(path), from_us, minutes / 60)
    return simulated(beats, from_us, from_us + round(minutes * 60e6), f"{path.name}, {minutes:g} minutes as planned")


def _recorded(since: str, until: str) -> Picture:
    from kloros.cli.moments import parse_window
    from kloros.cli.plotting.lanes import Lane, Picture, runs_of, skipped_dues
    from kloros.cli.proving.evidence import beat_records, cycle_reports
    from kloros.cli.units import moment
    from kloros.clock import SystemClock
    from kloros.orchestration.proof import Window
    from kloros.place import Place

    place, now_us = Place.discover(), SystemClock().wall_us()
    window = Window(*parse_window(since, until, now_us))
    lanes = []
    with beat_records(place) as records:
        reports = cycle_reports(place, window.since_us, window.until_us).facts
        for entry in records.entries:
            record = records.of(entry, window)
            due = record.dues.within(window)
            daemon, runs = runs_of(reports, entry)
            emitted = [row.emitted_us for row in record.emitted]
            if due or emitted or runs:
                lanes.append(Lane(entry, due, emitted, skipped_dues(due, record.skips), runs, daemon))
    lanes.sort(key=lambda lane: (-len(lane.due), lane.entry))
    title = f"{moment(window.since_us / 1e6)} to {moment(window.until_us / 1e6)}"
    return Picture(window.since_us, window.until_us, lanes, title)


def _beats(count: int) -> str:
    return "1 beat" if count == 1 else f"{count} beats"
