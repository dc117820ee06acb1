"""`kloros actions`: what is done, what waits, and what needs a person; `kloros approve` and `kloros reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli import actions_mode
from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import one_of, stored_by
from kloros.cli.units import countdown, moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.chembus.facts_work import ActionFacts, DecidedFacts
    from kloros.cli.client import Client
    from kloros.consumers.action.action import Action
    from kloros.consumers.action.flagging import Flag

app = typer.Typer(
    help="See what is done about findings, what waits for approval, and what needs a person.",
    rich_markup_mode=None,
    invoke_without_command=True,
)
app.command(name="mode")(actions_mode.mode)

STEM = "action_consumer"
COLUMNS = ("id", "what", "mode", "state", "when", "why")
FLAG_COLUMNS = ("id", "severity", ">times", "last", "what", "cure")
STATE_STYLES = {"helped": "green", "waiting": "bold yellow", "failed": "red", "timed_out": "red", "no_help": "red"}
SHOWN = 200
EXIT_REFUSED = 1
# The consumer answers at once, unless it is in the middle of an action.
ANSWER_TIMEOUT_S = 10.0
DONE_TIMEOUT_S = 120.0

OpenOption = Annotated[bool, typer.Option("--open", help="Those that have not ended (the default).")]
AllOption = Annotated[bool, typer.Option("--all", help="Those that ended too, the newest first.")]
ActionArgument = Annotated[str, typer.Argument(metavar="ID", help="The action's id, or its unique beginning.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]


@app.callback()
def actions(
    context: typer.Context, open_: OpenOption = False, everything: AllOption = False, json: JsonOption = False
) -> int:
    """See what is done about findings, what waits for approval, and what needs a person."""
    if context.invoked_subcommand is not None:
        return 0
    return list_(open_, everything, json)


@app.command(name="list")
def list_(open_: OpenOption = False, everything: AllOption = False, json: JsonOption = False) -> int:
    """List actions: those that have not ended the most valuable first, the others the newest first."""
    from kloros.clock import SystemClock
    from kloros.consumers.action import store
    from kloros.consumers.action.action import Stage
    from kloros.daemon.limits import Breaker

    with stored_by(STEM) as stored:
        found = store.actions(stored)
        ended = store.actions(stored, (Stage.ENDED,)) if everything and not open_ else []
        flags = len(store.open_flags(stored))
        breaker = stored.document("breaker", Breaker) or Breaker()
    now_us = SystemClock().wall_us()
    if json:
        as_json({"actions": [*found, *ended], "flags_open": flags, "paused_until_us": breaker.open_until_us})
        return 0
    listed = [*found, *ended]
    if listed:
        table(COLUMNS, [_row(each, now_us) for each in listed[:SHOWN]], spare=("when", "mode"))
    if len(listed) > SHOWN:
        say(f"and {len(listed) - SHOWN} more (--json shows all)")
    waiting = sum(each.stage is Stage.WAITING for each in found)
    say(
        f"{len(found)} open, {waiting} of them wait for approval (kloros approve ID, kloros reject ID); "
        f"{flags} flags need a person (kloros actions flags)"
    )
    if breaker.is_open(now_us):
        say(styled(f"too much failed lately: nothing is done until {moment(breaker.open_until_us / US_PER_S)}", "red"))
    return 0


@app.command()
def show(action_id: ActionArgument, json: JsonOption = False) -> int:
    """Show one action: what it is for, what it rests on, and what came of it."""
    from kloros.consumers.action import store

    with stored_by(STEM) as stored:
        action = store.action(stored, one_of(action_id, store.action_ids(stored), "action"))
    assert action is not None
    if json:
        as_json(action)
        return 0
    for name, value in _lines(action):
        say(f"{name + ':':<12} {value}")
    return 0


@app.command()
def flags(
    everything: Annotated[bool, typer.Option("--all", help="Those that were closed too.")] = False,
    json: JsonOption = False,
) -> int:
    """List what needs a person: what is wrong, and what could be done about it."""
    from kloros.consumers.action import store

    with stored_by(STEM) as stored:
        found = store.all_flags(stored) if everything else store.open_flags(stored)
    found.sort(key=lambda flag: (flag.closed_us is not None, -_rank(flag), -flag.last_us))
    if json:
        as_json(found)
        return 0
    if found:
        table(FLAG_COLUMNS, [_flag_row(flag) for flag in found[:SHOWN]], wordy=2, spare=("last",))
    say(f"{sum(flag.closed_us is None for flag in found)} flags are open")
    return 0


def approve(
    action_id: ActionArgument,
    reason: ReasonOption = None,
    now: Annotated[bool, typer.Option("--now", help="Do it now: do not wait for the next beat.")] = False,
    json: JsonOption = False,
) -> int:
    """Approve an action that waits for it: it is done at the next beat. Exit code 1 when it cannot be approved."""
    return _decide(action_id, "approve", reason, now, json)


def reject(action_id: ActionArgument, reason: ReasonOption = None, json: JsonOption = False) -> int:
    """Reject an action that waits for approval: it is not done. Exit code 1 when it cannot be rejected."""
    return _decide(action_id, "reject", reason, False, json)


# Deciding


def _decide(action_id: str, decision: str, reason: str | None, now: bool, json: bool) -> int:
    import msgspec

    from kloros.chembus.facts_work import DecidedFacts, DecisionFacts
    from kloros.cli.client import Client, requester

    whole_id = _whole(action_id)
    wish = {"action_id": whole_id, "decision": decision, "reason": reason, "requester": requester()}
    with Client("Q_ACTION_DECIDED", "Q_ACTION_COMPLETE", name="kloros_action") as client:
        request_id = client.emit("Q_ACTION_DECISION", msgspec.convert(wish, DecisionFacts))
        answer: DecidedFacts | None = None
        for message in client.messages(ANSWER_TIMEOUT_S):
            if isinstance(message.facts, DecidedFacts) and message.facts.request_id == request_id:
                answer = message.facts
                break
        if answer is None:
            return _say_nobody_answered(whole_id)
        ended: ActionFacts | None = None
        if answer.accepted and now:
            ended = _do_now(client, whole_id)
    if json:
        as_json({"decision": answer, "action": ended})
    else:
        _tell(answer, ended, now)
    return 0 if answer.accepted else EXIT_REFUSED


def _do_now(client: Client, action_id: str) -> ActionFacts | None:
    """Inject the trigger, and wait for the action's end."""
    from kloros.chembus.facts_work import ActionFacts

    client.emit("Q_TRIGGER_ACTION_PROCESSING")
    for message in client.messages(DONE_TIMEOUT_S):
        facts = message.facts
        if message.signal == "Q_ACTION_COMPLETE" and isinstance(facts, ActionFacts) and facts.action_id == action_id:
            return facts
    return None


def _tell(answer: DecidedFacts, ended: ActionFacts | None, now: bool) -> None:
    verb = "approved" if answer.decision == "approve" else "rejected"
    if not answer.accepted:
        typer.echo(f"kloros: {answer.action_id} cannot be {verb}: {answer.detail}", err=True)
        return
    say(styled(f"{answer.action_id} is {verb}: {answer.detail}", "green"))
    if ended is not None:
        say(f"{ended.action_type} {ended.target}: {(ended.outcome or '').replace('_', ' ')}, {ended.detail}")
    elif now:
        say(f"it has not ended within {DONE_TIMEOUT_S:g} s; see kloros actions show {answer.action_id}")
    elif answer.decision == "approve":
        say("to have it done at once: kloros schedule trigger action_processing")


def _say_nobody_answered(action_id: str) -> int:
    typer.echo(
        f"kloros: nobody answered within {ANSWER_TIMEOUT_S:g} s. The decision is kept: it will hold when the action "
        f"consumer is back, or done with what it does now, if {action_id} still waits then. "
        f"(kloros actions show {action_id})",
        err=True,
    )
    return EXIT_REFUSED


def _whole(action_id: str) -> str:
    """The whole id; who may not look into the database has to give it whole."""
    from kloros.consumers.action import store
    from kloros.errors import StoreUnusable

    try:
        with stored_by(STEM) as stored:
            return one_of(action_id, store.action_ids(stored), "action")
    except StoreUnusable:
        if len(action_id) != len("a-00000000"):
            raise
        return action_id


# Showing


def _row(action: Action, now_us: int) -> Row:
    state = action.outcome or action.stage.value
    when_us = action.ended_us or action.started_us or action.taken_us
    why = action.detail or action.waits_for or action.rationale or ""
    if action.expires_us is not None and action.outcome is None:
        why = f"expires in {countdown(action.expires_us / US_PER_S, now_us / US_PER_S)}: {why}"
    if action.confirmed_us is not None:
        state = f"{state}, confirmed"
    style = STATE_STYLES.get(action.outcome or action.stage.value, "")
    shown = styled(state.replace("_", " "), style) if style else state.replace("_", " ")
    return action.action_id, f"{action.kind} {action.target}", action.mode, shown, moment(when_us / US_PER_S), why


def _flag_row(flag: Flag) -> Row:
    severity = flag.severity or "-"
    shown = styled(severity, "bold red") if severity in ("high", "critical") else severity
    what = flag.rationale if flag.closed_us is None else f"closed ({flag.closed_because}): {flag.rationale}"
    return flag.flag_id, shown, str(flag.count), moment(flag.last_us / US_PER_S), what, flag.cure or ""


def _rank(flag: Flag) -> int:
    from kloros.consumers.action.action import rank

    return rank(flag.severity)


def _lines(action: Action) -> list[tuple[str, str]]:
    """What there is to say of an action, line by line."""
    from kloros.consumers.action.wording import would

    def at(us: int | None) -> str:
        return "" if us is None else moment(us / US_PER_S)

    state = (action.outcome or action.stage.value).replace("_", " ")
    parameters = " ".join(f"{name}={value}" for name, value in action.parameters.items())
    asked = f"{action.asked} times" if action.asked > 1 else ""
    confidence = "" if action.confidence is None else f"{action.confidence:.0%} sure"
    decided = f"{action.decided_by} at {at(action.decided_us)}" if action.decided_by else ""
    lines = [
        ("action", f"{action.action_id}: {would(action)}"),
        ("kind", f"{action.kind} {action.target} {parameters}".strip()),
        ("state", f"{state}: {action.detail}" if action.detail else state),
        ("mode", action.mode),
        ("finding", " ".join(filter(None, (action.gap_type, action.gap_name, action.severity, action.gap_id)))),
        ("question", action.question_id or ""),
        ("why", action.rationale or ""),
        ("rests on", ", ".join(filter(None, (action.rule and f"rule {action.rule}", confidence, asked)))),
        ("taken up", at(action.taken_us)),
        ("expires", at(action.expires_us)),
        ("waits for", action.waits_for or ""),
        ("decided by", f"{decided}: {action.decided_reason}" if action.decided_reason else decided),
        ("begun", at(action.started_us)),
        ("before", _state(action.before)),
        ("after", _state(action.after)),
        ("ended", at(action.ended_us)),
        ("confirmed", f"{at(action.confirmed_us)}: the finding ended" if action.confirmed_us else ""),
        ("taken back", f"at {at(action.lapses_us)}" if action.lapses_us else ""),
        ("by hand", action.cure or ""),
        *(("evidence", line) for line in action.evidence),
    ]
    return [(name, value) for name, value in lines if value]


def _state(state: dict[str, str | int | float | bool] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (state or {}).items())
