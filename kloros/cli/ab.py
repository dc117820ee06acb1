"""`kloros ab`: migrate a daemon from its old timer to the scheduler's signal by evidence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled, table
from kloros.cli.units import duration, moment, parse_duration

if TYPE_CHECKING:
    from kloros.cli.client import Client
    from kloros.cli.comparing.verdict import Figures, Trial, Verdict
    from kloros.cli.running.stopping import StopAsked

app = typer.Typer(
    help="Compare a daemon's old timer with the scheduler's signal.", rich_markup_mode=None, no_args_is_help=True
)

EXIT_NO_GO = 1
SAVE_EVERY_S = 60.0
TICK_TIMEOUT_S = 2.5
ROWS_SHOWN = 20
COLUMNS = ("", ">old timer", ">new signal")
STYLES = {"GO": "bold green", "NO-GO": "bold red", "TOO EARLY": "yellow"}

Daemon = Annotated[str, typer.Argument(metavar="DAEMON", help="Its name: introspection, decay ...")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Another place for the record.", show_default=False)
]


@app.command()
def run(
    daemon: Daemon,
    span: Annotated[str, typer.Option("--for", metavar="DURATION", help="10m, 48h; Ctrl-C ends it early.")] = "48h",
    file: FileOption = None,
    json: JsonOption = False,
) -> int:
    """Run the old timer beside the new signal, recorded and not worked twice; then report.

    The record is saved every minute: what was seen survives an end that comes too soon.
    """
    span_s = parse_duration(span)
    from kloros.cli.client import Client
    from kloros.cli.comparing.recorder import TOPICS
    from kloros.cli.running.stopping import StopAsked

    path = file or _record_of(daemon)
    with Client(*TOPICS) as client:
        trial = _begin(client, daemon)
    _save(trial, path, trial.to_us)
    with Client(*TOPICS, _signal_of(trial)) as client, StopAsked() as stop:
        _record(client, trial, span_s, path, stop)
        _save(trial, path, client.clock.wall_us())
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if not json:
        say(f"recorded in {path}")
    return _tell(trial, json)


@app.command()
def report(daemon: Daemon, file: FileOption = None, json: JsonOption = False) -> int:
    """Say by the record whether to switch, and why not. Exit code 0: GO, or too early to tell; 1: NO-GO."""
    import msgspec

    from kloros.cli.comparing.verdict import Trial

    path = file or _record_of(daemon)
    try:
        trial = msgspec.json.decode(path.read_bytes(), type=Trial)
    except FileNotFoundError:
        raise typer.BadParameter(f"there is no record in {path}; make one: kloros ab run {daemon} --for 1h") from None
    except (OSError, msgspec.DecodeError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from error
    return _tell(trial, json)


def _record_of(daemon: str) -> Path:
    from kloros.place import Place

    return Place.user().state / "ab" / f"{daemon.removesuffix('_daemon')}.json"


def _begin(client: Client, daemon: str) -> Trial:
    """What is known of the daemon's entry, from its heartbeat and the tick. Raises typer.BadParameter."""
    from kloros.cli.comparing.verdict import Trial
    from kloros.cli.roll_call import ask_everyone
    from kloros.cli.story.ticks import gather_schedule
    from kloros.units import seconds_to_us

    hearts, _tick = ask_everyone(client, wants_tick=False)
    paced = {heart.zooid: heart.schedule for heart in hearts if heart.schedule}
    zooid = next((name for name in (daemon, f"{daemon}_daemon") if name in paced), None)
    if zooid is None:
        if any(heart.zooid in (daemon, f"{daemon}_daemon") for heart in hearts):
            raise typer.BadParameter(f"{daemon} works on no schedule: there is nothing to compare")
        names = ", ".join(sorted(name.removesuffix("_daemon") for name in paced)) or "none at all"
        raise typer.BadParameter(f"no daemon {daemon} answers; of those that work on a schedule there are {names}")
    schedule = paced[zooid]
    entry = gather_schedule(client, TICK_TIMEOUT_S).entries.get(schedule)
    if entry is None:
        raise typer.BadParameter(f"the scheduler does not show {schedule}, its entry (kloros schedule show)")
    now_us = client.clock.wall_us()
    interval_us = seconds_to_us(entry.nominal_s or entry.interval_s)
    return Trial(zooid, schedule, interval_us, seconds_to_us(entry.offset_s), now_us, now_us)


def _signal_of(trial: Trial) -> str:
    """The trigger of the entry, from the schedule's file; without one, all triggers."""
    from kloros.cli.schedule_lint import suite_schedule
    from kloros.errors import ConfigError
    from kloros.orchestration.schedule_config import load_schedule

    try:
        entries = load_schedule(suite_schedule()).entries
    except ConfigError:
        return "Q_TRIGGER_*"
    return next((entry.signal for entry in entries if entry.name == trial.schedule), "Q_TRIGGER_*")


def _record(client: Client, trial: Trial, span_s: float, path: Path, stop: StopAsked) -> None:
    """Until the span is over or someone asks to stop."""
    from kloros.cli.comparing.recorder import OldTimer, Recorder

    clock = client.clock
    recorder, old = Recorder(trial, clock), OldTimer(clock, trial.interval_us / 1e6)
    trial.from_us = clock.wall_us()
    end_s, saved_s = clock.monotonic_s() + span_s, clock.monotonic_s()
    while (now_s := clock.monotonic_s()) < end_s and not stop:
        for message in client.messages(max(0.001, min(old.next_look_s, end_s) - now_s)):
            if message.signal.startswith("Q_TRIGGER_") and getattr(message.facts, "schedule", "") != trial.schedule:
                continue
            recorder.hear(message)
        old.look()
        trial.old_us = old.fired_us
        recorder.weigh()
        _show_progress(trial, end_s - clock.monotonic_s())
        if clock.monotonic_s() - saved_s > SAVE_EVERY_S:
            saved_s = clock.monotonic_s()
            _save(trial, path, clock.wall_us())


def _show_progress(trial: Trial, left_s: float) -> None:
    if sys.stderr.isatty():
        told = f"{len(trial.cycles)} cycles, {len(trial.old_us)} of the old timer, {duration(max(0.0, left_s))} to go"
        print(f"\r\x1b[K{told}", end="", file=sys.stderr, flush=True)


def _save(trial: Trial, path: Path, now_us: int) -> None:
    """Raises typer.BadParameter when it cannot be written there."""
    import msgspec

    trial.to_us = now_us
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.encode(trial))
        partial.replace(path)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror or error}") from error


def _tell(trial: Trial, json: bool) -> int:
    from kloros.cli.comparing.verdict import judge

    verdict = judge(trial)
    if json:
        as_json({"daemon": trial.daemon, **{name: getattr(verdict, name) for name in verdict.__struct_fields__}})
    else:
        _tell_person(trial, verdict)
    return EXIT_NO_GO if verdict.word == "NO-GO" else 0


def _tell_person(trial: Trial, verdict: Verdict) -> None:
    say(f"{trial.daemon}, entry {trial.schedule}, {moment(trial.from_us / 1e6)} to {moment(trial.to_us / 1e6)}")
    old, new = verdict.old, verdict.new
    table(COLUMNS, [_row(name, old, new) for name in old.__struct_fields__ if name != "drift_error_ms"])
    if verdict.cpu_percent is not None:
        say(f"the daemon used {verdict.cpu_percent:g} % of a core and {verdict.rss_mib:g} MiB")
    if trial.was_paced:
        say("the pace was changed meanwhile: its beats are compared with its triggers, not with its nominal interval")
    for row in verdict.rows[:ROWS_SHOWN]:
        say(f"  {row.kind}: {moment(row.due_us / 1e6)}: {row.detail}")
    if len(verdict.rows) > ROWS_SHOWN:
        say(f"  and {len(verdict.rows) - ROWS_SHOWN} more (--json)")
    say(styled(f"{verdict.word}: {verdict.sentence}", STYLES[verdict.word]))


def _row(name: str, old: Figures, new: Figures) -> tuple[str, str, str]:
    words = {"late_p50_ms": "late, half (ms)", "late_p99_ms": "late, 99 of 100 (ms)", "drift_ms": "drift (ms)"}
    values = (getattr(old, name), getattr(new, name))
    shown = tuple(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values)
    return words.get(name, name), shown[0], shown[1]
