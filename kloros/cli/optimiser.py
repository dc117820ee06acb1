"""`kloros optimiser`: what it sees, what it changed and why; its kill switch, and what it may do without a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli import optimiser_mode
from kloros.cli.optimiser_talk import STEM
from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import stored_by
from kloros.cli.units import countdown, duration, moment, parse_duration
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.optimisation.changes import Change
    from kloros.optimisation.model import Weakness
    from kloros.optimisation.settings import OptimiserSettings
    from kloros.optimisation.store import Knob, Taken
    from kloros.storage.snapshot import Snapshot

app = typer.Typer(
    help="See what the optimiser sees, what it changed and why; stop it, and say what it may do.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.command(name="mode")(optimiser_mode.mode)

WEAK_COLUMNS = ("module", "weakness", "severity", ">is", ">allowed", ">cycles")
CHANGE_COLUMNS = ("change", "kind", "module", "what", "state", ">lease")
KNOB_COLUMNS = ("kind", "module", "in force", ">until")
HISTORY_COLUMNS = ("when", "id", "kind", "module", "status", "came of it", "stopped at", "why")
STATUS_STYLES = {"SUCCESS": "green", "PARTIAL": "green", "FAILED": "red", "RATE_LIMITED": "yellow"}
VERDICT_STYLES = {"CONFIRMED": "green", "REVERTED": "red", "INCONCLUSIVE": "yellow"}
SEVERITY_STYLES = {"HIGH": "red", "CRITICAL": "bold red", "MEDIUM": "yellow"}
EXIT_NOT_SO = 1
EXIT_SILENT = 3


def _complete_id(incomplete: str) -> list[str]:
    """Never fails: a shell waits for it."""
    from kloros.errors import KlorosError

    try:
        with stored_by(STEM) as stored:
            return [each for each in ids(stored) if each.startswith(incomplete)]
    except KlorosError:
        return []


IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Of an action, a change or a flag; its unique beginning is enough.",
        autocompletion=_complete_id,
    ),
]  # fmt: skip
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]


# Looking


@app.command()
def status(json: JsonOption = False) -> int:
    """Show whether it may change anything, what it finds weak, and what is changed and not verified yet."""
    from kloros.clock import SystemClock
    from kloros.optimisation import store
    from kloros.optimisation.gates import GateState
    from kloros.optimisation.register import live_count
    from kloros.optimisation.round import REPORT, Report

    settings, now_us = _settings(), SystemClock().wall_us()
    with stored_by(STEM) as stored:
        require_tables(stored)
        gates = stored.document("gates", GateState) or GateState()
        report = stored.document(REPORT, Report)
        queued = store.actions(stored, store.Stage.QUEUED, store.Stage.ACTING)
        waiting = store.actions(stored, store.Stage.WAITING)
        changes, knobs, flags = store.open_changes(stored), store.knobs(stored), live_count(stored)
        paused = _why_paused(stored, now_us)
    answers = _answers()
    acts = sum(each > now_us - settings.limits.window_s * US_PER_S for each in gates.acts_us)
    if json:
        as_json(
            {"answers": answers, "paused": paused, "dry_run": settings.limits.dry_run, "modes": settings.modes,
             "breaker_open_until_us": gates.breaker.open_until_us, "changes_in_window": acts,
             "window_s": settings.limits.window_s, "changes_at_most": settings.limits.max_enactments,
             "queued": queued, "waiting": waiting, "changes": changes, "in_force": knobs, "flags_open": flags,
             "report": report}
        )  # fmt: skip
        return 0
    say(_headline(answers, paused))
    if gates.breaker.is_open(now_us):
        until = moment(gates.breaker.open_until_us / US_PER_S)
        say(styled(f"too much failed lately: nothing is changed until {until}", "red"))
    if settings.limits.dry_run:
        say(styled("dry run: nothing is changed ([limits] dry_run)", "yellow"))
    modes = ", ".join(f"{name} {getattr(settings.modes, name)}" for name in settings.modes.__struct_fields__)
    say(f"modes: {modes} (kloros optimiser mode)")
    if report is None:
        say("it has not looked at the modules yet")
    else:
        calls = sum(each.calls for each in report.modules)
        say(
            f"looked at {moment(report.at_us / US_PER_S)}: {calls} cycles of {len(report.modules)} modules, "
            f"{len(report.weaknesses)} weaknesses, {len(report.unhealthy)} of {report.known} unhealthy"
        )
        if report.weaknesses:
            table(WEAK_COLUMNS, [_weak_row(each) for each in report.weaknesses], wordy=0)
    if changes:
        say("")
        table(CHANGE_COLUMNS, [_change_row(each, now_us) for each in changes], wordy=0)
    if knobs:
        say("")
        table(KNOB_COLUMNS, [_knob_row(each, now_us) for each in knobs], wordy=0)
    say(
        f"{acts} of at most {settings.limits.max_enactments} changes in {duration(settings.limits.window_s)}; "
        f"{len(queued)} queued, {len(waiting)} wait for approval, {len(changes)} to be verified; "
        f"{flags} need a person (kloros review)"
    )
    return 0


@app.command()
def history(
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="So many, the newest first.")] = 50,
    module: Annotated[str | None, typer.Option("--module", metavar="NAME", help="Only of this module.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only those that failed, or were taken back afterwards.")
    ] = False,
    json: JsonOption = False,
) -> int:
    """List what was proposed and what became of it, the newest first."""
    from kloros.optimisation import store

    with stored_by(STEM) as stored:
        require_tables(stored)
        ended = store.actions(stored, store.Stage.ENDED)
        found = [(each, store.change(stored, each.change_id) if each.change_id else None) for each in ended]
    found = [each for each in found if (module is None or each[0].module == module) and (not failed or _fell(*each))]
    found.sort(key=lambda each: (each[0].ended_us or 0, each[0].seq), reverse=True)
    if json:
        as_json([{"action": taken, "change": change} for taken, change in found[:last]])
        return 0
    if found:
        table(HISTORY_COLUMNS, [_history_row(*each) for each in found[:last]], spare=("when", "stopped at"))
    left = len(found) - last
    say(f"and {left} more (--last {len(found)})" if left > 0 else f"{len(found)} actions (kloros optimiser explain ID)")
    return 0


@app.command()
def explain(wanted: IdArgument, json: JsonOption = False) -> int:
    """Tell one action's whole story: why, each gate's answer, what was changed, what was measured, the verdict."""
    from kloros.cli.optimiser_story import story, told
    from kloros.cli.stored import one_of

    settings = _settings()
    with stored_by(STEM) as stored:
        require_tables(stored)
        known = ids(stored)
        found = story(stored, known[one_of(wanted, known, "action")], settings)
    if json:
        as_json(found.fields())
        return 0
    for line, style in told(found):
        say(styled(line, style) if style else line)
    return 0


# The kill switch


@app.command()
def pause(
    span_text: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End by itself after so long: 90, 30m, 2h.")
    ] = None,
    reason: ReasonOption = None,
    json: JsonOption = False,
) -> int:
    """Let it change nothing more; it goes on looking, verifying and taking back. Exit code 3 when nobody answers."""
    return _switch(True, None if span_text is None else parse_duration(span_text), reason, json)


@app.command()
def resume(reason: ReasonOption = None, json: JsonOption = False) -> int:
    """Let it change things again. Exit code 1 when something else holds it, 3 when nobody answers."""
    return _switch(False, None, reason, json)


def _switch(is_on: bool, span_s: float | None, reason: str | None, json: bool) -> int:
    from kloros.chembus.facts import OptimiserPauseFacts
    from kloros.cli.client import Client, requester
    from kloros.cli.optimiser_talk import ask

    with Client("OPTIMISER_STATE", "HEARTBEAT", name="kloros_optimiser") as client:
        until_ts = None if span_s is None else client.now_ts() + span_s
        wish = OptimiserPauseFacts(reason=reason, requester=requester(), until_ts=until_ts)
        client.emit("OPTIMISER_PAUSE" if is_on else "OPTIMISER_RESUME", wish)
        heart, state = ask(client)
    if heart is None and state is None:
        typer.echo(
            "kloros: the optimiser did not answer, so it did not hear this (systemctl status kloros-optimiser). What "
            "holds without it: a file KILL beside its state.db, or kloros optimiser mode KIND off",
            err=True,
        )
        return EXIT_SILENT
    why = state.paused if state is not None else _why_paused_now(is_on)
    is_so = bool(why) == is_on
    if json:
        as_json({"paused": why, "until_ts": until_ts if is_on else None, "turned": state is not None})
    elif not is_so and not is_on:
        typer.echo(f"kloros: it still changes nothing: {why}", err=True)
    elif is_on:
        until = "" if until_ts is None else f" until {moment(until_ts)}"
        say(styled(f"the optimiser changes nothing{until}: {why}", "yellow"))
    else:
        say("the optimiser may change things" if state is not None else "the optimiser was not paused")
    return 0 if is_so else EXIT_NOT_SO


def _why_paused_now(is_on: bool) -> str:
    """The daemon answered, and nothing had turned: what holds now, as far as it can be seen."""
    from kloros.clock import SystemClock
    from kloros.errors import StoreUnusable

    try:
        with stored_by(STEM) as stored:
            return _why_paused(stored, SystemClock().wall_us())
    except StoreUnusable:
        return "it was paused before" if is_on else ""


def _why_paused(stored: Snapshot, now_us: int) -> str:
    from pathlib import Path

    from kloros.optimisation.pause import Pause, why_paused
    from kloros.place import Place

    told = _settings().pause.kill_file
    kill_file = Path(told) if told else Place.discover().state / STEM / "KILL"
    said: Pause = stored.document("pause", Pause) or Pause()
    return why_paused(said, now_us, str(kill_file), kill_file.exists())


# Reading


def require_tables(stored: Snapshot) -> None:
    """Raises StoreUnusable while the daemon has not made its tables."""
    from kloros.errors import StoreUnusable

    if not stored.query("SELECT 1 FROM sqlite_master WHERE name = 'flags'"):
        raise StoreUnusable(path="optimiser/state.db", reason="nothing is in it yet; is kloros-optimiser running?")


def ids(stored: Snapshot) -> dict[str, str]:
    """The action behind each id: its own, its change's, and that of a flag about it."""
    require_tables(stored)
    rows = stored.query("SELECT action_id, change_id FROM actions")
    known = {row[1]: row[0] for row in rows if row[1]}
    actions = {row[0] for row in rows}
    flags = stored.query("SELECT flag_id, action_id FROM flags WHERE action_id IS NOT NULL")
    known |= {row[0]: row[1] for row in flags if row[1] in actions}
    return known | {each: each for each in actions}


def _settings() -> OptimiserSettings:
    return optimiser_mode.settings_in_force()


def _answers() -> bool | None:
    """Whether the daemon answers; None when there is no bus to ask on."""
    from kloros.cli.client import Client
    from kloros.cli.optimiser_talk import ask
    from kloros.errors import BusError

    try:
        with Client("HEARTBEAT", name="kloros_optimiser") as client:
            return ask(client)[0] is not None
    except BusError:
        return None


# Showing


def _headline(answers: bool | None, paused: str) -> str:
    if answers is None:
        return styled("there is no bus: this is what the optimiser left", "yellow")
    if not answers:
        return styled("the optimiser does not answer (systemctl status kloros-optimiser)", "red")
    return styled(f"it changes nothing: {paused}", "yellow") if paused else styled("it is at work", "green")


def _weak_row(each: Weakness) -> Row:
    name = each.severity.name
    shown = styled(name, SEVERITY_STYLES[name]) if name in SEVERITY_STYLES else name
    return each.module_name, str(each.kind), shown, f"{each.value:.4g}", f"{each.threshold:.4g}", str(each.samples)


def _change_row(change: Change, now_us: int) -> Row:
    from kloros.optimisation.book import told

    what = f"{change.name} {told(change.before)} -> {told(change.after)}"
    lease = countdown(change.lease_until_us / US_PER_S, now_us / US_PER_S)
    return change.change_id, str(change.action_kind), change.module_name, what, str(change.state), lease


def _knob_row(knob: Knob, now_us: int) -> Row:
    from kloros.optimisation.book import told

    until = "confirmed" if knob.is_confirmed else countdown((knob.until_us or now_us) / US_PER_S, now_us / US_PER_S)
    return knob.kind, knob.module, f"{knob.name} {told(knob.value)} (was {told(knob.origin)})", until


def _fell(taken: Taken, change: Change | None) -> bool:
    return taken.status == "FAILED" or (change is not None and change.verdict == "REVERTED")


def _history_row(taken: Taken, change: Change | None) -> Row:
    status = taken.status or "-"
    verdict = str(change.verdict or change.state) if change else ""
    stopped = "" if change or taken.gate in (None, "act", "flag") else str(taken.gate)
    why = (change.reason if change and change.verdict else None) or taken.detail or ""
    return (
        moment((taken.ended_us or 0) / US_PER_S), taken.action_id, taken.kind, taken.module,
        styled(status, STATUS_STYLES[status]) if status in STATUS_STYLES else status,
        styled(verdict, VERDICT_STYLES[verdict]) if verdict in VERDICT_STYLES else verdict, stopped, why,
    )  # fmt: skip
