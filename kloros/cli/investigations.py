"""`kloros investigations`: what was looked into, what was seen, what it means, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import one_of, stored_by
from kloros.cli.units import duration, moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.chembus.facts_work import InvestigationFacts, QuestionFacts, RecommendedAction
    from kloros.storage.snapshot import Snapshot

app = typer.Typer(
    help="See what was looked into, what was seen, and what it means.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

STEM = "investigation_consumer"
COLUMNS = ("id", "when", "status", "rule", "sure", "about")
SHOWN = 200
NOT_LOOKED_INTO = ("refused", "suppressed", "withdrawn")
_ALL, _LOOKED_INTO = "", f"WHERE status NOT IN {NOT_LOOKED_INTO}"
STYLES = {"concluded": "green", "inconclusive": "yellow", "failed": "red", "timed_out": "red", "suppressed": "red"}
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow"}

OpenOption = Annotated[bool, typer.Option("--open", help="Only questions that wait to be looked into.")]
AllOption = Annotated[bool, typer.Option("--all", help="Also what was refused, suppressed or withdrawn.")]


@app.callback()
def investigations(
    context: typer.Context, open_: OpenOption = False, everything: AllOption = False, json: JsonOption = False
) -> int:
    """See what was looked into, what was seen, and what it means: the newest first, below what waits."""
    if context.invoked_subcommand is not None:
        return 0
    with stored_by(STEM) as stored:
        waiting = _waiting(stored)
        ended = [] if open_ else _ended(stored, _ALL if everything else _LOOKED_INTO, at_most=None if json else SHOWN)
        by_status = dict(stored.query("SELECT status, count(*) FROM investigations GROUP BY status"))
    if json:
        as_json({"waiting": [_waiting_fields(*each) for each in waiting], "ended": [_fields(*each) for each in ended]})
        return 0
    rows = [_waiting_row(*each) for each in waiting[:SHOWN]] + [_row(*each) for each in ended[:SHOWN]]
    if rows:
        table(COLUMNS, rows, spare=("when", "sure"))
    known = 0 if open_ else sum(by_status[name] for name in by_status if everything or name not in NOT_LOOKED_INTO)
    left_out = max(0, len(waiting) - SHOWN) + known - len(ended)
    if left_out:
        say(f"and {left_out} more (--json shows all)")
    say(_summary(len(waiting), by_status))
    return 0


@app.command()
def show(
    question_id: Annotated[str, typer.Argument(metavar="ID", help="The question's id, or its unique beginning.")],
    json: JsonOption = False,
) -> int:
    """Show one investigation: the question, what was seen, what it means, and what would help."""
    with stored_by(STEM) as stored:
        ids = stored.query("SELECT question_id FROM questions UNION ALL SELECT question_id FROM investigations")
        wanted = one_of(question_id, [row[0] for row in ids], "investigation")
        ended = _ended(stored, "WHERE question_id = ?", (wanted,))
        waiting = [each for each in _waiting(stored) if each[0].question_id == wanted]
    if json:
        as_json(_fields(*ended[0]) if ended else _waiting_fields(*waiting[0]))
    elif ended:
        _tell(*ended[0])
    else:
        _tell_waiting(*waiting[0])
    return 0


# Reading


def _waiting(stored: Snapshot) -> list[tuple[QuestionFacts, int]]:
    """(question, since when) of those that wait, the most valuable first."""
    import msgspec

    from kloros.chembus.facts_work import QuestionFacts

    rows = stored.query("SELECT body, arrived_us FROM questions ORDER BY worth DESC, arrived_us, question_id")
    return [(msgspec.json.decode(body, type=QuestionFacts), arrived_us) for body, arrived_us in rows]


def _ended(
    stored: Snapshot, where: str, values: tuple[str, ...] = (), at_most: int | None = None
) -> list[tuple[InvestigationFacts, int, int]]:
    """(what came of it, since when it waited, when it ended), the newest first."""
    import msgspec

    from kloros.chembus.facts_work import InvestigationFacts

    sql = f"SELECT body, arrived_us, ended_us FROM investigations {where} ORDER BY number DESC LIMIT ?"
    rows = stored.query(sql, (*values, -1 if at_most is None else at_most))
    return [(msgspec.json.decode(row[0], type=InvestigationFacts), row[1], row[2]) for row in rows]


def _waiting_fields(question: QuestionFacts, since_us: int) -> dict[str, object]:
    return {"status": "waiting", "arrived_ts": since_us / US_PER_S, **_of(question)}


def _fields(facts: InvestigationFacts, since_us: int, until_us: int) -> dict[str, object]:
    return {**_of(facts), "arrived_ts": since_us / US_PER_S, "ended_ts": until_us / US_PER_S}


def _of(facts: QuestionFacts | InvestigationFacts) -> dict[str, object]:
    return {name: getattr(facts, name) for name in facts.__struct_fields__}


# The list


def _row(facts: InvestigationFacts, _since_us: int, until_us: int) -> Row:
    about = facts.conclusion or facts.question or facts.gap_name or "-"
    sure = "-" if facts.confidence is None else f"{facts.confidence:.0%}"
    status = styled(facts.status, STYLES[facts.status]) if facts.status in STYLES else facts.status
    return (facts.question_id, moment(until_us / US_PER_S), status, facts.rule or "-", sure, _line(about))


def _waiting_row(question: QuestionFacts, since_us: int) -> Row:
    return (question.question_id, moment(since_us / US_PER_S), "waiting", "-", "-", _line(question.question))


def _line(text: str) -> str:
    return " ".join(text.split())


def _summary(waiting: int, by_status: dict[str, int]) -> str:
    parts = [f"{waiting} wait"] + [f"{count} {status.replace('_', ' ')}" for status, count in sorted(by_status.items())]
    return "; ".join(parts)


# One of them


def _tell(facts: InvestigationFacts, since_us: int, until_us: int) -> None:
    _head(facts.question_id, facts.question or "(no question was told)", facts.gap_type, facts.gap_name, facts.severity)
    took = "" if facts.duration_ms is None else f", looked into for {duration(facts.duration_ms / 1e3)}"
    say(f"asked   {moment(since_us / US_PER_S)}; ended {moment(until_us / US_PER_S)}{took}")
    if facts.evidence:
        say("")
        say("what was seen" + (f" (playbook {facts.playbook})" if facts.playbook else ""))
        for line in facts.evidence:
            say(f"  - {_line(line)}")
    sure = f", {facts.confidence:.0%} sure" if facts.confidence is not None else ""
    rule = f" by rule {facts.rule}" if facts.rule else ""
    say("")
    say(styled(f"{facts.status.replace('_', ' ')}{rule}{sure}", STYLES.get(facts.status, "bold")))
    say(f"  {_line(facts.conclusion or '-')}")
    _tell_help(facts.recommended_action, facts.cure)


def _tell_help(action: RecommendedAction | None, cure: str | None) -> None:
    if action is not None:
        settings = "".join(f" {name}={value}" for name, value in action.parameters.items())
        why = f", because {action.why}" if action.why else ""
        say("")
        say(f"it recommends {action.action_type} {action.target}{settings}{why}")
    if cure:
        if not action:
            say("")
        say(f"a person could: {_line(cure)}")


def _tell_waiting(question: QuestionFacts, since_us: int) -> None:
    _head(question.question_id, question.question, question.gap_type, question.gap_name, question.severity)
    say(f"waits since {moment(since_us / US_PER_S)}; folded with it: {question.folded - 1}")
    for line in question.evidence:
        say(f"  - {_line(line)}")


def _head(question_id: str, question: str, gap_type: str | None, gap_name: str | None, severity: str | None) -> None:
    say(styled(f"{question_id}  {_line(question)}", "bold"))
    how_bad = styled(f"severity {severity}", SEVERITY_STYLES.get(severity or "", "")) if severity else ""
    if gap_type:
        say(f"finding {gap_type}: {_line(gap_name or '-')}")
    if how_bad:
        say(how_bad)
