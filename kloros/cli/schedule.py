"""`kloros schedule`: see the schedule and change it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli import schedule_lint, schedule_plot, schedule_simulate
from kloros.cli.harmless import harmless
from kloros.cli.names import complete_schedule
from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.units import clock_time, countdown, duration, interval, parse_duration

if TYPE_CHECKING:
    from kloros.chembus.facts import ControlFacts, TickEntry, TickFacts

app = typer.Typer(help="See the schedule and change it.", rich_markup_mode=None, no_args_is_help=True)

# The tick comes each second; a long schedule comes in pages, one per tick at least.
TICK_TIMEOUT_S = 2.5
COLUMNS = ("entry", "signal", ">interval", ">pace", ">next in", ">last beat", "last due", ">missed", "why")

app.command(name="lint")(schedule_lint.lint)
app.command(name="simulate")(schedule_simulate.simulate)
app.command(name="plot")(schedule_plot.plot)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The entry's name.", autocompletion=complete_schedule)]


@app.command()
def show(json: JsonOption = False) -> int:
    """Show every entry: interval, pace and why, next and last beat, what was missed."""
    from kloros.cli.client import Client
    from kloros.cli.story.ticks import gather_schedule

    with Client("Q_SCHEDULE_TICK") as client:
        tick = gather_schedule(client, TICK_TIMEOUT_S)
        now_ts = client.now_ts()
    if json:
        as_json(tick)
        return 0
    table(COLUMNS, rows(tick, now_ts), spare=("signal", "last due", ">last beat"))
    say(summary(tick))
    return 0


@app.command()
def pause(name: Name) -> int:
    """Stop triggering an entry until it is resumed."""
    return _ask("pause", name)


@app.command()
def resume(name: Name) -> int:
    """Trigger a paused entry again."""
    return _ask("resume", name)


@app.command()
def trigger(name: Name) -> int:
    """Trigger an entry now, besides its beats."""
    return _ask("trigger", name)


@app.command()
def reload() -> int:
    """Have the scheduler read its file again; a bad file changes nothing."""
    return _ask("reload", None)


@app.command(name="set")
def set_(
    name: Name,
    interval_text: Annotated[
        str | None, typer.Option("--interval", metavar="DURATION", help="10, 10s, 5m, 2h; `nominal` takes it back.")
    ] = None,
    pace: Annotated[
        float | None, typer.Option(help="0.5 is half as often, 2 twice as often, 1 takes it back.", min=0.01, max=100)
    ] = None,
    span_text: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Take it back by itself after so long.")
    ] = None,
) -> int:
    """Change an entry's interval or pace, for a while or until further notice."""
    if interval_text is None and pace is None:
        raise typer.BadParameter("give --interval, --pace or both")
    ttl_s = None if span_text is None else parse_duration(span_text)
    code = 0
    if interval_text is not None:
        value = None if interval_text == "nominal" else parse_duration(interval_text)
        code = _ask("set_interval", name, value, ttl_s if value else None)
    if pace is not None and code == 0:
        code = _ask("set_pace", name, pace, ttl_s)
    return code


def _ask(op: str, name: str | None, value: float | None = None, ttl_s: float | None = None) -> int:
    """Send a wish and tell the scheduler's answer; 1 when it refused."""
    import msgspec

    from kloros.chembus.facts import ControlFacts
    from kloros.cli.client import control

    wish: ControlFacts = msgspec.convert({"op": op, "schedule": name, "value": value, "ttl_s": ttl_s}, ControlFacts)
    answer = control(wish)
    about = name or "schedule"
    if answer.ok:
        say(f"{about}: {answer.detail or op}")
        return 0
    reason = harmless(answer.detail or "")
    typer.echo(f"kloros: the scheduler refused to {op.replace('_', ' ')} {name or ''}: {reason}", err=True)
    return 1


def rows(tick: TickFacts, now_ts: float) -> list[Row]:
    """The table's rows, the next one due first."""
    entries = sorted(tick.entries.items(), key=lambda item: (item[1].next_due_ts or float("inf"), item[0]))
    return [_row(name, entry, tick.maintenance, now_ts) for name, entry in entries]


def _row(name: str, entry: TickEntry, is_resting: bool, now_ts: float) -> Row:
    if entry.paused:
        next_in = styled("paused", "yellow")
    elif is_resting:
        next_in = styled("maintenance", "yellow")
    else:
        next_in = countdown(entry.next_due_ts, now_ts)
    why = entry.why or ""
    if entry.override_until_ts is not None:
        why = f"{why} until {clock_time(entry.override_until_ts)}".strip()
    return (
        name,
        entry.signal,
        interval(entry.interval_s),
        styled(f"{entry.pace:g}", "yellow") if entry.pace != 1.0 else "1",
        next_in,
        "-" if entry.last_beat is None else str(entry.last_beat),
        "-" if entry.last_due_ts is None else clock_time(entry.last_due_ts),
        styled(str(entry.missed), "yellow") if entry.missed else "0",
        why,
    )


def summary(tick: TickFacts) -> str:
    """One line under the table: lateness, clock, uptime, maintenance."""
    parts = []
    if tick.lateness_p50_ms is not None and tick.lateness_p99_ms is not None:
        late = f"{duration(tick.lateness_p50_ms / 1e3)} (half), {duration(tick.lateness_p99_ms / 1e3)} (99 of 100)"
        parts.append(f"triggers are late by {late}")
    if tick.clock is not None:
        known = {True: "synchronised", False: "not synchronised", None: "synchronised or not: unknown"}
        parts.append(f"clock {known[tick.clock.synchronised]}")
        if tick.clock.steps:
            parts.append(f"stepped {tick.clock.steps} times")
    parts.append(f"scheduler up {duration(tick.uptime_s)}")
    if tick.maintenance:
        until = "" if tick.maintenance_until_ts is None else f" until {clock_time(tick.maintenance_until_ts)}"
        parts.append(f"MAINTENANCE{until}")
    return "; ".join(parts)
