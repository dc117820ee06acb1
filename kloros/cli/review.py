"""`kloros review`: what needs a person, from the optimiser and from others, and a person's word on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kloros.cli.optimiser_talk import STEM
from kloros.cli.output import JsonOption, Row, as_json, one_line, say, styled, table
from kloros.cli.stored import one_of, stored_by
from kloros.cli.units import moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.chembus.facts_work import EnactmentFacts, ReviewDecidedFacts, ReviewFacts
    from kloros.cli.client import Client
    from kloros.optimisation.flags import Flag
    from kloros.storage.snapshot import Snapshot

app = typer.Typer(
    help="See what needs a person, and approve, reject or acknowledge it.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

COLUMNS = ("id", "severity", ">times", "state", "last", "module", "what", "cure")
SHOWN = 200
WHOLE = 1_000
EXIT_REFUSED = 1
WHOLE_ID = len("f-00000000")
# The optimiser hears a decision at once, unless it is in the middle of a change.
ANSWER_TIMEOUT_S = 10.0
DONE_TIMEOUT_S = 60.0
DONE_WORDS = {"approve": "approved", "reject": "rejected", "acknowledge": "acknowledged"}

Word = Literal["approve", "reject", "acknowledge"]


def _complete_id(incomplete: str) -> list[str]:
    """Flags that a person should still look at. Never fails: a shell waits for it."""
    from kloros.errors import KlorosError
    from kloros.optimisation.flags import LIVE
    from kloros.optimisation.register import flags

    try:
        with stored_by(STEM) as stored:
            return [each.flag_id for each in flags(stored, *LIVE) if each.flag_id.startswith(incomplete)]
    except KlorosError:
        return []


FlagArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Of a flag, or of an action that waits; its unique beginning is enough.",
        autocompletion=_complete_id,
    ),
]  # fmt: skip
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
AllOption = Annotated[bool, typer.Option("--all", help="Those that were decided or are over, too.")]


@app.callback()
def review(context: typer.Context, everything: AllOption = False, json: JsonOption = False) -> int:
    """See what needs a person, and approve, reject or acknowledge it."""
    if context.invoked_subcommand is not None:
        return 0
    return list_(everything, json)


@app.command(name="list")
def list_(everything: AllOption = False, json: JsonOption = False) -> int:
    """List what needs a person: the worst first, and of those as bad the newest."""
    from kloros.optimisation.flags import LIVE, rank
    from kloros.optimisation.register import flags, live_count

    with stored_by(STEM) as stored:
        _require_tables(stored)
        found = flags(stored) if everything else flags(stored, *LIVE)
        live = live_count(stored)
    found.sort(key=lambda flag: (not flag.is_live, -rank(flag), -flag.last_us, flag.flag_id))
    if json:
        as_json(found)
        return 0
    if found:
        table(COLUMNS, [_row(flag) for flag in found[:SHOWN]], wordy=2, spare=("last", "state", "module"))
    if len(found) > SHOWN:
        say(f"and {len(found) - SHOWN} more (--json shows all)")
    say(f"{live} need a person (kloros review show ID)" if live else "nothing needs a person")
    return 0


@app.command()
def show(flag_id: FlagArgument, json: JsonOption = False) -> int:
    """Show one flag: what is wrong, since when, what it rests on, and what could be done."""
    from kloros.optimisation.register import flag

    with stored_by(STEM) as stored:
        _require_tables(stored)
        ids = _flags_by_id(stored)
        found = flag(stored, ids[one_of(flag_id, ids, "flag")])
    assert found is not None
    if json:
        as_json(found)
        return 0
    say(styled(one_line(found.rationale, WHOLE), "bold"))
    for name, value in _lines(found):
        say(f"  {name + ':':<13} {one_line(value, WHOLE)}")
    return 0


@app.command()
def approve(
    flag_id: FlagArgument,
    reason: ReasonOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for what comes of the action.")] = False,
    json: JsonOption = False,
) -> int:
    """Say yes: an action that waits passes the gates again, and is done. Exit code 1 when it cannot be approved."""
    return _decide(flag_id, "approve", reason, wait, json)


@app.command()
def reject(flag_id: FlagArgument, reason: ReasonOption = None, json: JsonOption = False) -> int:
    """Say no: an action that waits is not done, the flag is closed. Exit code 1 when it cannot be rejected."""
    return _decide(flag_id, "reject", reason, False, json)


@app.command()
def acknowledge(flag_id: FlagArgument, reason: ReasonOption = None, json: JsonOption = False) -> int:
    """Say that somebody has seen it: it stays open, and what waits goes on waiting."""
    return _decide(flag_id, "acknowledge", reason, False, json)


# Deciding


def _decide(wanted: str, word: Word, reason: str | None, wait: bool, json: bool) -> int:
    from kloros.chembus.facts_work import ReviewDecisionFacts
    from kloros.cli.client import Client, requester
    from kloros.cli.optimiser_talk import end_of

    flag_id, action_id = _whole(wanted)
    wish = ReviewDecisionFacts(
        decision=word, flag_id=flag_id, action_id=action_id, requester=requester(), reason=reason
    )
    topics = ("Q_REVIEW_DECIDED", "Q_ENACTMENT", "FLAG_FOR_REVIEW")
    with Client(*topics, name="kloros_review") as client:
        request_id = client.emit("Q_REVIEW_DECISION", wish)
        answer = _answer(client, request_id)
        if answer is None:
            return _say_nobody_answered(flag_id or action_id or wanted)
        ended: EnactmentFacts | ReviewFacts | None = None
        if answer.accepted and wait and answer.action_id:
            ended = end_of(client, answer.action_id, DONE_TIMEOUT_S)
    if json:
        as_json({"decision": answer, "enactment": ended})
    else:
        _tell(answer, word, ended, wait)
    return 0 if answer.accepted else EXIT_REFUSED


def _answer(client: Client, request_id: str) -> ReviewDecidedFacts | None:
    from kloros.chembus.facts_work import ReviewDecidedFacts

    for message in client.messages(ANSWER_TIMEOUT_S):
        if isinstance(message.facts, ReviewDecidedFacts) and message.facts.request_id == request_id:
            return message.facts
    return None


def _tell(answer: ReviewDecidedFacts, word: Word, ended: EnactmentFacts | ReviewFacts | None, wait: bool) -> None:
    from kloros.chembus.facts_work import EnactmentFacts

    name = answer.flag_id or answer.action_id or "it"
    if not answer.accepted:
        typer.echo(f"kloros: {name} cannot be {DONE_WORDS[word]}: {answer.detail}", err=True)
        return
    say(styled(answer.detail or f"{name} is {DONE_WORDS[word]}", "green"))
    if isinstance(ended, EnactmentFacts):
        say(f"{ended.action_kind} of {ended.module_name}: {ended.status}, {ended.detail}")
    elif wait and answer.action_id:
        say(f"it has not ended within {DONE_TIMEOUT_S:g} s; see kloros optimiser explain {answer.action_id}")
    elif word == "approve" and answer.action_id:
        say(f"what comes of it: kloros optimiser explain {answer.action_id}")


def _say_nobody_answered(name: str) -> int:
    typer.echo(
        f"kloros: nobody answered within {ANSWER_TIMEOUT_S:g} s. The decision is kept: it will hold when the optimiser "
        f"is back, or done with what it does now, if {name} is still open then. (kloros review show {name})",
        err=True,
    )
    return EXIT_REFUSED


def _whole(wanted: str) -> tuple[str | None, str | None]:
    """The whole id, as a flag's or as an action's; who may not look into the database has to give it whole."""
    from kloros.errors import StoreUnusable

    try:
        with stored_by(STEM) as stored:
            _require_tables(stored)
            return _named(stored, wanted)
    except StoreUnusable:
        if len(wanted) < WHOLE_ID:
            raise
        return (wanted, None) if wanted.startswith("f-") else (None, wanted)


def _named(stored: Snapshot, wanted: str) -> tuple[str | None, str | None]:
    from kloros.optimisation.store import Stage, actions

    flags = set(_flags_by_id(stored))
    waiting = {each.action_id for each in actions(stored, Stage.WAITING)}
    found = one_of(wanted, flags | waiting, "flag")
    return (found, None) if found in flags else (None, found)


# Showing


def _require_tables(stored: Snapshot) -> None:
    from kloros.errors import StoreUnusable

    if not stored.query("SELECT 1 FROM sqlite_master WHERE name = 'flags'"):
        raise StoreUnusable(path="optimiser/state.db", reason="nothing is in it yet; is kloros-optimiser running?")


def _flags_by_id(stored: Snapshot) -> dict[str, str]:
    return {row[0]: row[0] for row in stored.query("SELECT flag_id FROM flags")}


def _row(flag: Flag) -> Row:
    severity = flag.severity or "-"
    shown = styled(severity, "bold red") if severity in ("high", "critical") else severity
    what = flag.rationale if not flag.decided_reason else f"{flag.rationale} ({flag.decided_reason})"
    return (
        one_line(flag.flag_id), shown, str(flag.count), str(flag.state), moment(flag.last_us / US_PER_S),
        one_line(flag.module or ""), one_line(what, WHOLE), one_line(flag.cure or "", WHOLE),
    )  # fmt: skip


def _lines(flag: Flag) -> list[tuple[str, str]]:
    from kloros.optimisation.flags import OURS

    def at(us: int | None) -> str:
        return "" if us is None else moment(us / US_PER_S)

    is_ours = flag.source == OURS
    decided = f"{flag.decided_by or 'nobody'} at {at(flag.decided_us)}" if flag.decided_us else ""
    look = f"kloros optimiser explain {flag.action_id}" if is_ours else f"kloros actions show {flag.action_id}"
    times = f"{flag.count} times, the first at {at(flag.opened_us)}, the last at {at(flag.last_us)}"
    lines = [
        ("flag", f"{flag.flag_id} ({flag.fingerprint})"),
        ("state", str(flag.state)),
        ("severity", flag.severity or ""),
        ("raised by", "the optimiser" if is_ours else "somebody else on the bus"),
        ("happened", times if flag.count > 1 else f"once, at {at(flag.opened_us)}"),
        ("module", flag.module or ""),
        ("reason", flag.reason.replace("_", " ")),
        ("action", f"{flag.action_id} ({look})" if flag.action_id else ""),
        ("finding", f"{flag.gap_id} (kloros story {flag.gap_id})" if flag.gap_id else ""),
        ("decided by", f"{decided}: {flag.decided_reason}" if decided and flag.decided_reason else decided),
        ("ended", f"{at(flag.ended_us)}{_why(flag)}" if flag.ended_us else ""),
        ("what to do", flag.cure or ""),
        *(("evidence", line) for line in flag.evidence),
    ]
    return [(name, value) for name, value in lines if value]


def _why(flag: Flag) -> str:
    return f": {flag.decided_reason}" if flag.decided_reason and not flag.decided_us else ""
