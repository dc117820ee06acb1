"""`kloros schedule simulate`: what a schedule will do, in virtual time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kloros.cli.output import JsonOption, as_json, say, styled, table
from kloros.cli.schedule_lint import FileArgument, suite_schedule
from kloros.cli.units import duration, interval, moment, parse_duration, real

if TYPE_CHECKING:
    from kloros.orchestration.schedule_config import ScheduleConfig
    from kloros.orchestration.schedule_entry import Beat
    from kloros.orchestration.simulate import Mood

COLUMNS = ("entry", ">beats", ">interval", ">shortest gap", ">longest gap", "first", "last")
DIFF_COLUMNS = ("entry", ">beats", ">beats there", ">moved", "first that moved")
_MOOD = re.compile(r"(?P<name>[A-Za-z_]+)@(?P<from>[^+]+)\+(?P<span>.+)")
MOODS_HELP = "NAME@WHEN+SPAN, such as CRITICAL_FATIGUE@2h+30m (from the start), or a TOML file of such [[mood]]."


class EntrySum(msgspec.Struct):
    """What one entry did."""

    entry: str
    beats: int
    interval_s: float
    shortest_s: float | None
    longest_s: float | None
    first_ts: float
    last_ts: float


class Outcome(msgspec.Struct):
    """What the whole schedule did. The peaks are the most beats within any second, and within any minute."""

    start_ts: float
    hours: float
    beats: int
    peak_second: int
    peak_minute: int
    entries: list[EntrySum]


def simulate(
    file: FileArgument = None,
    hours: Annotated[
        float, typer.Option(help="How many hours to play.", min=0.001, max=24 * 366, callback=real)
    ] = 24.0,
    start: Annotated[str, typer.Option("--from", metavar="WHEN", help="When it begins.")] = "today",
    affect: Annotated[list[str] | None, typer.Option("--affect", metavar="MOOD", help=MOODS_HELP)] = None,
    diff: Annotated[
        Path | None, typer.Option("--diff", metavar="OTHER", help="Compare with this file: which beats moved.")
    ] = None,
    beats: Annotated[bool, typer.Option("--beats", help="Print every beat.")] = False,
    json: JsonOption = False,
) -> int:
    """Play a schedule in virtual time: every beat of a day in less than a second."""
    from kloros.cli.moments import parse_moment
    from kloros.clock import SystemClock
    from kloros.orchestration.schedule_config import load_schedule

    start_us = parse_moment(start, SystemClock().wall_us())
    moods = [mood for text in affect or () for mood in parse_moods(text, start_us)]
    config = load_schedule(file or suite_schedule())
    played = play(config, start_us, hours, moods)
    if beats:
        return _print_beats(played, json)
    outcome = sum_up(played, start_us, hours)
    if diff is not None:
        other = play(load_schedule(diff), start_us, hours, moods)
        return _tell_diff(played, other, outcome, sum_up(other, start_us, hours), json)
    if json:
        as_json(outcome)
    else:
        _tell(outcome)
    return 0


def play(config: ScheduleConfig, start_us: int, hours: float, moods: Sequence[Mood] = ()) -> list[Beat]:
    """Every beat."""
    from kloros.orchestration.simulate import simulate as play_entries

    return list(
        play_entries(config.entries, start_us, hours, moods=moods, rules=config.affect, settle_us=config.settle_us)
    )


def parse_moods(text: str, start_us: int) -> list[Mood]:
    """NAME@WHEN+SPAN, or the [[mood]] of a file. Raises typer.BadParameter."""
    from kloros.chembus.vocabulary import VOCABULARY
    from kloros.orchestration.simulate import Mood

    if text.endswith(".toml"):
        return [mood for each in _mood_tables(Path(text)) for mood in parse_moods(each, start_us)]
    match = _MOOD.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not {MOODS_HELP}")
    name = match["name"].upper()
    signal = name if name.startswith("AFFECT_") else f"AFFECT_{name}"
    if not VOCABULARY.knows(signal):
        raise typer.BadParameter(f"there is no mood {signal} (kloros affect emit --help)")
    from_us = start_us + round(parse_duration(match["from"]) * 1e6)
    return [Mood(signal, from_us, from_us + round(parse_duration(match["span"]) * 1e6))]


def _mood_tables(path: Path) -> list[str]:
    from kloros.config import read_toml

    tables = read_toml(path).get("mood", [])
    try:
        return [f"{each['signal']}@{each['at']}+{each['for']}" for each in tables]
    except (KeyError, TypeError) as error:
        raise typer.BadParameter(f'{path}: each [[mood]] needs signal = "...", at = "2h", for = "30m"') from error


def sum_up(beats: Iterable[Beat], start_us: int, hours: float) -> Outcome:
    """The figures. Pure."""
    by_entry: dict[str, list[int]] = {}
    intervals: dict[str, int] = {}
    seconds: Counter[int] = Counter()
    minutes: Counter[int] = Counter()
    for beat in beats:
        fired_us = (beat.due_us or 0) + beat.late_us
        by_entry.setdefault(beat.entry.name, []).append(beat.due_us or 0)
        intervals[beat.entry.name] = beat.entry.interval_us
        seconds[fired_us // 1_000_000] += 1
        minutes[fired_us // 60_000_000] += 1
    entries = [_entry_sum(name, dues, intervals[name]) for name, dues in by_entry.items()]
    return Outcome(
        start_ts=start_us / 1e6,
        hours=hours,
        beats=sum(seconds.values()),
        peak_second=max(seconds.values(), default=0),
        peak_minute=max(minutes.values(), default=0),
        entries=sorted(entries, key=lambda each: (each.interval_s, each.entry)),
    )


def _entry_sum(name: str, dues_us: list[int], interval_us: int) -> EntrySum:
    gaps_s = [(after - before) / 1e6 for before, after in zip(dues_us, dues_us[1:], strict=False)]  # noqa: RUF007
    return EntrySum(
        entry=name,
        beats=len(dues_us),
        interval_s=interval_us / 1e6,
        shortest_s=min(gaps_s, default=None),
        longest_s=max(gaps_s, default=None),
        first_ts=dues_us[0] / 1e6,
        last_ts=dues_us[-1] / 1e6,
    )


def _tell(outcome: Outcome) -> None:
    rows = [
        (
            each.entry,
            str(each.beats),
            interval(each.interval_s),
            "-" if each.shortest_s is None else duration(each.shortest_s),
            "-" if each.longest_s is None else duration(each.longest_s),
            moment(each.first_ts),
            moment(each.last_ts),
        )
        for each in outcome.entries
    ]
    table(COLUMNS, rows)
    say(f"{outcome.beats} beats in {outcome.hours:g} h; at most {outcome.peak_second} in any second, "
        f"{outcome.peak_minute} in any minute")  # fmt: skip


def _print_beats(beats: Sequence[Beat], json: bool) -> int:
    from kloros.cli.output import json_line
    from kloros.orchestration.schedule_facts import why

    for beat in beats:
        due_us = beat.due_us or 0
        if json:
            told = {"entry": beat.entry.name, "beat": beat.beat, "due_ts": due_us / 1e6, "pace": beat.pace}
            json_line({**told, "interval_s": beat.interval_us / 1e6, "reason": beat.reason, "why": why(beat)})
        else:
            say(f"{moment(due_us / 1e6)}  {beat.entry.name}  {why(beat) or ''}".rstrip())
    return 0


def _tell_diff(ours: Sequence[Beat], theirs: Sequence[Beat], one: Outcome, other: Outcome, json: bool) -> int:
    rows = [_diff_row(name, ours, theirs) for name in sorted({beat.entry.name for beat in (*ours, *theirs)})]
    if json:
        names = ("entry", "beats", "other_beats", "moved", "first_moved_ts")
        peaks = {
            "peak_second": [one.peak_second, other.peak_second],
            "peak_minute": [one.peak_minute, other.peak_minute],
        }
        as_json({"entries": [dict(zip(names, row, strict=True)) for row in rows], **peaks})
        return 0
    shown = [(n, str(a), str(b), str(m), "-" if first is None else moment(first)) for n, a, b, m, first in rows if m]
    if shown:
        table(DIFF_COLUMNS, shown)
    else:
        say(styled("no beat moves", "green"))
    say(f"most beats in any second: {one.peak_second}, there {other.peak_second}; in any minute: {one.peak_minute}, "
        f"there {other.peak_minute}")  # fmt: skip
    return 0


def _diff_row(name: str, ours: Sequence[Beat], theirs: Sequence[Beat]) -> tuple[str, int, int, int, float | None]:
    """A beat has moved when nothing of the entry is due at its moment in the other one."""
    one = {beat.due_us or 0 for beat in ours if beat.entry.name == name}
    other = {beat.due_us or 0 for beat in theirs if beat.entry.name == name}
    moved = one ^ other
    return name, len(one), len(other), max(len(one - other), len(other - one)), min(moved) / 1e6 if moved else None
