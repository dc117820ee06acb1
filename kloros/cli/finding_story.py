"""`kloros story`: one finding's whole life, from scan to outcome."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled
from kloros.cli.units import clock_time, duration, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kloros.cli.story.lives import Life, Step

WORD_WIDTH = 13
AFTER_WIDTH = 13
# What came so shortly after the step before it came with it.
AT_ONCE_S = 0.01


def story(
    wanted: Annotated[
        str,
        typer.Argument(metavar="ID", help="Of a finding, a question, an action or a flag; its beginning is enough."),
    ],
    everything: Annotated[bool, typer.Option("--all", help="All its lives; otherwise since it last opened.")] = False,
    json: JsonOption = False,
) -> int:
    """Tell one finding's whole life, from scan to outcome, step by step, and how long each step took."""
    from kloros.cli.story.sources import Sources

    with Sources() as sources:
        incident_id = sources.incident_of(wanted)
        told, source = sources.told_by_history(incident_id), "history"
        if not told:
            told, source = sources.told_by_memory(incident_id), "memory"
    shown = told if everything else told[-1:]
    if json:
        fields = [_fields(life) for life in shown]
        as_json({"incident": incident_id, "source": source, "lives_known": len(told), "lives": fields})
        return 0
    if source == "memory":
        why = "; ".join(sources.lacks) or "the history does not know it any more"
        print(f"kloros: this is only what is remembered ({why})", file=sys.stderr)
    for number, life in enumerate(shown, len(told) - len(shown) + 1):
        _tell(life, f"{incident_id}, life {number} of {len(told)}" if len(told) > 1 else incident_id)
    if len(shown) < len(told):
        say(styled(f"{len(told) - len(shown)} earlier: kloros story {incident_id} --all", "dim"))
    return 0


def _fields(life: Life) -> dict[str, object]:
    return {
        "about": life.about,
        "since_ts": life.since_ts,
        "until_ts": life.until_ts,
        "lasted_s": life.lasted_s,
        "steps": [vars(step) for step in life.steps],
    }


def _tell(life: Life, name: str) -> None:
    about = f"{life.about}, {name}" if life.about else name
    say(styled(f"{about}: {_extent(life)}", "bold"))
    day = ""
    for step in life.steps:
        if moment(step.ts)[:10] != day:
            day = moment(step.ts)[:10]
            say(styled(f"-- {day} --", "dim"))
        for line, style in _lines(step):
            say(styled(line, style) if style else line)


def _extent(life: Life) -> str:
    if life.is_remembered:
        return "as it is remembered"
    if life.since_ts is None:
        return "its beginning is not known any more"
    if life.lasted_s is None:
        return f"since {moment(life.since_ts)}, not over"
    return f"since {moment(life.since_ts)}, over after {duration(life.lasted_s)}"


def _lines(step: Step) -> Sequence[tuple[str, str]]:
    """The step in one line, and indented under it what belongs to it; each with its style."""
    after = "" if step.after_s is None or step.after_s < AT_ONCE_S else f"+{duration(step.after_s)}"
    took = (
        "" if step.took_s is None else f" ({'lasted' if step.word == 'restored' else 'took'} {duration(step.took_s)})"
    )
    head = f"{clock_time(step.ts)}  {after:<{AFTER_WIDTH}} {step.word:<{WORD_WIDTH}} "
    indent = " " * len(head)
    return [(f"{head}{step.text}{took}", step.style), *((f"{indent}{detail}", "dim") for detail in step.details)]
