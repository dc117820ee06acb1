"""`kloros memory`: what is remembered, how fresh it is, and when it will be forgotten."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.stored import stored_by
from kloros.cli.units import duration, moment
from kloros.units import US_PER_S

if TYPE_CHECKING:
    from kloros.consumers.memory.fading import Fading, Sector
    from kloros.consumers.memory.store import Memory, MemoryReader
    from kloros.storage.snapshot import Snapshot

app = typer.Typer(
    help="See what is remembered, how fresh it is, and when it will be forgotten.",
    rich_markup_mode=None,
    invoke_without_command=True,
)

STEM = "decay"
COLUMNS = (">memory", "last", "sector", ">score", "what")
SECTORS = {
    "episodic": "what happened",
    "semantic": "what was learnt",
    "procedural": "what helps and what does not",
    "emotional": "what alarmed",
    "reflective": "what was thought of it afterwards",
}
DEFAULT_LAST = 20
# The same beginning may name a finding and what was concluded about it; more than these many are not told apart.
MOST_ALIKE = 50


def _complete_sector(incomplete: str) -> list[str]:
    return [sector for sector in SECTORS if sector.startswith(incomplete)]


@app.callback()
def memory(
    context: typer.Context,
    sector: Annotated[
        str | None,
        typer.Option(metavar="S", help=f"Only this one: {', '.join(SECTORS)}.", autocompletion=_complete_sector),
    ] = None,
    about: Annotated[str | None, typer.Option(metavar="TEXT", help="Only those with this in them.")] = None,
    last: Annotated[int, typer.Option(metavar="N", help="How many.", min=0, max=100_000)] = DEFAULT_LAST,
    json: JsonOption = False,
) -> int:
    """See what is remembered, the latest first. To list is not to look: only `show` keeps a memory alive."""
    if context.invoked_subcommand is not None:
        return 0
    fading, now_us = _fading(), _now_us()
    wanted = None if sector is None else _sector(sector)
    with stored_by(STEM) as stored:
        reader = _reader(stored)
        found, count = reader.latest(last, wanted, about), reader.count()
    if json:
        as_json({"count": count, "memories": [_fields(each, fading, now_us) for each in found]})
        return 0
    if found:
        table(COLUMNS, [_row(each, fading, now_us) for each in found], spare=("sector", "last"))
    shown = f"{len(found)} of {count}" if len(found) < count else str(count)
    say(f"{shown} memories")
    return 0


@app.command()
def show(
    wanted: Annotated[
        str,
        typer.Argument(metavar="ID", help="Its number, or (the beginning of) the finding's, question's, action's id."),
    ],
    json: JsonOption = False,
) -> int:
    """Look at one memory. That is an access: it will be forgotten later."""
    fading, now_us = _fading(), _now_us()
    with stored_by(STEM) as stored:
        found = _find(_reader(stored), wanted)
    lack = _note_access(found.number)
    if json:
        as_json({**_fields(found, fading, now_us), "access_noted": lack is None})
        return 0
    _tell(found, fading, now_us)
    if lack is not None:
        print(f"kloros: this does not count as an access: {lack}", file=sys.stderr)
    return 0


def _find(reader: MemoryReader, wanted: str) -> Memory:
    """The one memory that is meant. Raises typer.BadParameter."""
    found = reader.by_number(int(wanted)) if wanted.isdecimal() and len(wanted) < 16 else None
    if found is not None:
        return found
    alike = reader.by_id_beginning(wanted, MOST_ALIKE)
    ids = sorted({each.id.partition("/")[0] for each in alike})
    if not alike:
        raise typer.BadParameter(f"no memory is called {wanted!r}")
    if len(ids) > 1 and wanted not in ids:
        raise typer.BadParameter(f"{wanted!r} is the beginning of {len(ids)} ids: {', '.join(ids[:5])} ...")
    # What is called just so, and not what was concluded about it.
    return min(alike, key=lambda each: (len(each.id), each.number))


def _note_access(number: int) -> str | None:
    """Tell the daemon; returns why it could not be told."""
    from kloros.chembus.facts_work import MemoryAccessFacts
    from kloros.cli.client import Client, requester
    from kloros.errors import KlorosError

    try:
        with Client(name="kloros_memory") as client:
            client.emit("Q_MEMORY_ACCESSED", MemoryAccessFacts(memory=number, requester=requester()))
    except KlorosError as error:
        return str(error)
    return None


def _reader(stored: Snapshot) -> MemoryReader:
    from kloros.consumers.memory.store import MemoryReader

    return MemoryReader(stored)


def _fading() -> Fading:
    """The curve by the settings in force."""
    from kloros.config import load_or_default
    from kloros.consumers.memory.fading import Fading
    from kloros.consumers.memory.settings import MemorySettings
    from kloros.place import Place

    settings = load_or_default(Place.discover().config / f"{STEM}_config.toml", MemorySettings)
    return Fading(settings.half_life_h, settings.fading)


def _now_us() -> int:
    from kloros.clock import SystemClock

    return SystemClock().wall_us()


def _sector(name: str) -> Sector:
    from kloros.consumers.memory.fading import Sector

    if name not in SECTORS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(SECTORS)}")
    return Sector(name)


# Telling


def _fields(each: Memory, fading: Fading, now_us: int) -> dict[str, object]:
    fields = {name: getattr(each, name) for name in each.__struct_fields__ if not name.endswith("_us")}
    return fields | {
        "kind": each.kind,
        "id": each.id,
        "related": each.related.split(),
        "score": round(_score(each, fading, now_us), 6),
        "created_ts": each.created_us / US_PER_S,
        "accessed_ts": each.accessed_us / US_PER_S,
        "fades_ts": fading.fades_us(each.sector, each.importance, each.born_us) / US_PER_S,
    }


def _score(each: Memory, fading: Fading, now_us: int) -> float:
    return fading.score(each.sector, each.importance, now_us - each.born_us)


def _row(each: Memory, fading: Fading, now_us: int) -> Row:
    note = f" ({each.note})" if each.note else ""
    often = f" [{each.times} times]" if each.times > 1 else ""
    score = _score(each, fading, now_us)
    style = "bold" if each.importance >= 0.7 else "dim" if score < 0.25 else ""
    words = f"{each.text}{note}{often}"
    return (
        str(each.number),
        moment(each.accessed_us / US_PER_S),
        each.sector.value,
        f"{score:.2f}",
        styled(words, style) if style else words,
    )


def _tell(each: Memory, fading: Fading, now_us: int) -> None:
    fades_us = fading.fades_us(each.sector, each.importance, each.born_us)
    rest = f"until {moment(fades_us / US_PER_S)}" if fades_us > now_us else "until the next beat of decay"
    severity = f", {each.severity}" if each.severity else ""
    often = f", {each.times} times" if each.times > 1 else ""
    say(styled(f"{each.kind} {each.id}", "bold"))
    say(f"  {each.text}")
    if each.note:
        say(f"  {each.note}")
    for name, told in (
        ("memory", f"{each.number}, {each.sector.value}: {SECTORS[each.sector]}"),
        ("importance", f"{each.importance:.2f}{severity}"),
        ("score", f"{_score(each, fading, now_us):.2f}, remembered {rest} if nobody looks at it"),
        ("created", _ago(each.created_us, now_us)),
        ("last", f"{_ago(each.accessed_us, now_us)}{often}"),
        ("story", f"kloros story {each.gap_id}" if each.gap_id else ""),
        ("belongs to", each.related),
    ):
        if told:
            say(f"{name:<11} {told}")


def _ago(then_us: int, now_us: int) -> str:
    return f"{moment(then_us / US_PER_S)} ({duration(max(0.0, (now_us - then_us) / US_PER_S))} ago)"
