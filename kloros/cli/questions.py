"""`kloros questions`: what the machine asks about itself, what it does not ask, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import one_of, stored_by
from kloros.cli.units import duration, moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.consumers.curiosity.question import Candidate, Question, Tally
    from kloros.storage.snapshot import Snapshot

app = typer.Typer(
    help="See what the machine asks about itself, what it does not ask, and why.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

STEM = "curiosity_core_consumer"
COLUMNS = ("id", "level", "since", "status", "question")
LEVELS = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
LEVEL_STYLES = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow"}
SHOWN = 200

OpenOption = Annotated[bool, typer.Option("--open", help="Those that have no answer yet (the default).")]
ArchivedOption = Annotated[bool, typer.Option("--archived", help="Those that were not asked, or got no answer.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them, and the findings that wait to be asked about.")]


@app.callback()
def questions(
    context: typer.Context,
    open_: OpenOption = False,
    archived: ArchivedOption = False,
    everything: AllOption = False,
    json: JsonOption = False,
) -> int:
    """See what the machine asks about itself, what it does not ask, and why."""
    if context.invoked_subcommand is not None:
        return 0
    return list_(open_, archived, everything, json)


@app.command(name="list")
def list_(
    open_: OpenOption = False, archived: ArchivedOption = False, everything: AllOption = False, json: JsonOption = False
) -> int:
    """List questions: open ones the most urgent first, others the newest first."""
    statuses = _statuses(open_, archived, everything)
    with stored_by(STEM) as stored:
        found = _questions(stored, statuses)
        waiting = _candidates(stored) if everything else []
        tally = _tally(stored)
        waiting_count = int(stored.query("SELECT count(*) FROM candidates")[0][0])
    if json:
        as_json({"questions": found, "waiting": waiting, "waiting_count": waiting_count, "totals": tally})
        return 0
    rows = [_row(question) for question in found[:SHOWN]] + [_waiting_row(each) for each in waiting[:SHOWN]]
    if rows:
        table(COLUMNS, rows, spare=("since",))
    left_out = max(0, len(found) - SHOWN) + max(0, len(waiting) - SHOWN)
    if left_out:
        say(f"and {left_out} more (--json shows all)")
    say(_summary(tally, waiting_count))
    return 0


@app.command()
def show(
    question_id: Annotated[str, typer.Argument(metavar="ID", help="The question's id, or its unique beginning.")],
    json: JsonOption = False,
) -> int:
    """Show one question: what is known, what is guessed, what it is worth, and what became of it."""
    from kloros.consumers.curiosity.store import read_questions

    with stored_by(STEM) as stored:
        ids = [row[0] for row in stored.query("SELECT question_id FROM questions")]
        wanted = one_of(question_id, ids, "question")
        (question,) = read_questions(stored.query("SELECT body FROM questions WHERE question_id = ?", (wanted,)))
        folded = stored.query("SELECT question_id FROM questions WHERE folded_into = ?", (wanted,))
    if json:
        as_json(question)
        return 0
    _tell(question, [row[0] for row in folded])
    return 0


def _statuses(open_: bool, archived: bool, everything: bool) -> tuple[str, ...]:
    if everything:
        return ("open", "folded", "answered", "archived")
    wanted = ("open",) if open_ or not archived else ()
    return (*wanted, "archived") if archived else wanted


def _questions(stored: Snapshot, statuses: tuple[str, ...]) -> list[Question]:
    from kloros.consumers.curiosity.store import read_questions

    marks = ", ".join("?" * len(statuses))
    sql = f"SELECT body FROM questions WHERE status IN ({marks}) ORDER BY changed_us DESC, question_id"
    found = list(read_questions(stored.query(sql, statuses)))
    return found if statuses != ("open",) else sorted(found, key=_urgency)


def _urgency(question: Question) -> tuple[int, float]:
    return LEVELS.index(question.level) if question.level in LEVELS else len(LEVELS), -question.ratio


def _candidates(stored: Snapshot) -> list[Candidate]:
    import msgspec

    from kloros.consumers.curiosity.question import Candidate

    found = [msgspec.json.decode(body, type=Candidate) for (body,) in stored.query("SELECT body FROM candidates")]
    return sorted(found, key=lambda each: (-each.heard_us, each.gap_id))


def _tally(stored: Snapshot) -> Tally:
    from kloros.consumers.curiosity.question import Tally

    return stored.document("tally", Tally) or Tally()


def _row(question: Question) -> Row:
    became = question.reason or question.outcome
    status = f"{question.status} ({became})" if became else str(question.status)
    if question.folded_into:
        status = f"{question.status} into {question.folded_into}"
    style = LEVEL_STYLES.get(question.level, "")
    level = styled(question.level, style) if style else question.level if question.level in LEVELS else "-"
    since_us = question.asked_us or question.changed_us
    return (question.question_id, level, moment(since_us / US_PER_S), status, question.question)


def _waiting_row(candidate: Candidate) -> Row:
    what = candidate.detail or f"{candidate.gap_type}: {candidate.gap_name}"
    return ("-", "", moment(candidate.first_seen_us / US_PER_S), "waiting", what)


def _summary(tally: Tally, waiting_count: int) -> str:
    asked, archived = sum(tally.asked.values()), sum(tally.archived.values())
    parts = [f"{tally.heard} findings heard", f"{waiting_count} wait", f"{asked} asked", f"{archived} not asked"]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.archived.items(), key=lambda each: -each[1]))
    return "; ".join(parts) + (f" ({why})" if why else "")


def _tell(question: Question, folded: list[str]) -> None:
    say(styled(question.question, "bold"))
    facts = [
        ("id", question.question_id),
        ("status", _row(question)[3]),
        ("asked", "never" if question.asked_us is None else moment(question.asked_us / US_PER_S)),
        ("about", f"{question.gap_type} {question.gap_name} ({question.severity}), finding {question.gap_id}"),
        ("found", moment(question.first_seen_us / US_PER_S)),
        ("guess", question.hypothesis or "-"),
        ("priority", f"{question.level}: worth {question.value:g}, costs {question.cost:g}, ratio {question.ratio:g}"),
        ("category", question.category),
        ("capability", question.capability_key),
    ]
    if question.times > 1:
        facts.append(("this often", str(question.times)))
    if folded:
        facts.append(("stands for", ", ".join(folded)))
    if question.conclusion:
        sure = "" if question.confidence is None else f" ({question.confidence:.0%} sure)"
        facts.append(("answer", f"{question.conclusion}{sure}"))
    if question.asked_us is not None and question.status in ("answered", "archived"):
        facts.append(("closed after", duration(max(0, question.changed_us - question.asked_us) / US_PER_S)))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        say(f"  {name:<{width}}  {value}")
    say("  evidence")
    for item in question.evidence:
        say(f"    {item}")
    say(f"    (hash {question.evidence_hash})")
