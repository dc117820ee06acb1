"""`kloros prove`: whether every due beat ended as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.names import complete_schedule
from kloros.cli.output import JsonOption, as_json, say, styled, table
from kloros.cli.units import moment

if TYPE_CHECKING:
    from kloros.cli.proving.verdict import Proof
    from kloros.orchestration.proof import Tally

EXIT_RED = 1
SHOWN = 20
SCHEDULE_COLUMNS = ("entry", ">due", ">emitted", ">skipped", ">open", "why skipped")
CONSUMER_COLUMNS = ("entry", "consumer", ">emitted", ">run", ">fallback", ">overlapped", ">lost", ">open")


def prove(
    entries: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENTRY]...", help="Only these entries.", autocompletion=complete_schedule),
    ] = None,
    since: Annotated[str, typer.Option(metavar="WHEN", help="From when on: 24h (ago), 16:30, 2025-11-17.")] = "24h",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Up to when.")] = "now",
    json: JsonOption = False,
) -> int:
    """Prove that each due beat was emitted or skipped with its reason, and each emitted one run exactly once.

    Every due moment is computed anew from the history of the schedule. Exit code 0: it adds up; 1: it does not, and
    which beats.
    """
    from kloros.cli.moments import parse_window
    from kloros.cli.proving.evidence import BEFORE_INTERVALS, beat_records, cycle_reports
    from kloros.cli.proving.verdict import prove as judge
    from kloros.clock import SystemClock
    from kloros.orchestration.proof import Window
    from kloros.place import Place

    place, now_us = Place.discover(), SystemClock().wall_us()
    since_us, until_us = parse_window(since, until, now_us)
    with beat_records(place) as records:
        wanted = tuple(entries or ())
        for name in wanted:
            records.require(name)
        oldest_us = records.oldest_us()
        if oldest_us is not None and until_us < oldest_us:
            raise typer.BadParameter(f"nothing is on record from before {moment(oldest_us / 1e6)}")
        window = Window(max(since_us, oldest_us or since_us), until_us)
        known = (records.of(name, window, with_rows=False) for name in wanted or records.entries)
        longest_us = max((record.interval_us for record in known), default=0)
        # A clock that was set back leaves reports from times that are yet to come.
        latest_us = max(now_us, window.until_us)
        reports = cycle_reports(place, window.since_us - BEFORE_INTERVALS * longest_us, latest_us)
        proof = judge(records, reports, window, wanted)
    proof.oldest_us = oldest_us if window.since_us > since_us else None
    if json:
        as_json({"ok": proof.ok, "digest": proof.digest, **{n: getattr(proof, n) for n in proof.__struct_fields__}})
    else:
        tell(proof)
    return 0 if proof.ok else EXIT_RED


def tell(proof: Proof) -> None:
    """The proof as a person reads it."""
    beginning = "" if proof.oldest_us is None else "; nothing is on record from before"
    say(f"from {moment(proof.since_us / 1e6)} to {moment(proof.until_us / 1e6)}{beginning}")
    if not proof.schedule:
        say("nothing was due")
        return
    say("")
    table(SCHEDULE_COLUMNS, [_schedule_row(tally) for tally in proof.schedule])
    if proof.consumers:
        say("")
        table(
            CONSUMER_COLUMNS,
            [
                (each.entry, each.daemon or "", *(str(getattr(each, name.strip(">"))) for name in CONSUMER_COLUMNS[2:]))
                for each in proof.consumers
            ],
        )
    say("")
    for entry in proof.unheard:
        say(styled(f"{entry}: nobody ever reported on it; only its emission is proven", "yellow"))
    for note in proof.notes:
        say(styled(note, "yellow"))
    if proof.ok:
        due = sum(tally.due - tally.open for tally in proof.schedule)
        say(styled(f"green: {due} due beats, each emitted or skipped with its reason, none run twice or lost untold",
                   "green"))  # fmt: skip
        say(f"certificate {proof.digest}")
        return
    say(styled(f"red: {len(proof.counterexamples)} beats did not end as they should", "bold red"))
    for each in proof.counterexamples[:SHOWN]:
        who = f" ({each.daemon})" if each.daemon else ""
        say(f"  {each.kind}: {each.entry}@{moment(each.due_us / 1e6)}{who}: {each.detail}")
    if len(proof.counterexamples) > SHOWN:
        say(f"  and {len(proof.counterexamples) - SHOWN} more (--json)")


def _schedule_row(tally: Tally) -> tuple[str, ...]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.skipped.items()))
    return tally.entry, str(tally.due), str(tally.emitted), str(sum(tally.skipped.values())), str(tally.open), reasons
