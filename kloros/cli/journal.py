"""`kloros journal`: what the proxy keeps of durable signals, who reads them, and how far they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from kloros.cli.harmless import harmless
from kloros.cli.output import JsonOption, json_line, say

if TYPE_CHECKING:
    from kloros.place import Place

app = typer.Typer(
    help="Durable signals: what is kept, and who has read it.", rich_markup_mode=None, no_args_is_help=True
)

_ANSWER_WITHIN_S = 2.0


@app.callback()
def root() -> None:
    """Durable signals: what is kept, and who has read it."""


@app.command()
def status(json: JsonOption = False) -> int:
    """Offsets, size, and how far behind each consumer is. Exit code 3 without an answer, 4 when nothing can be kept."""
    from kloros.place import Place

    figures = ask(Place.discover())
    if json:
        json_line(figures)
    else:
        for line in lines_of(figures):
            say(line)
    return 4 if figures["lack"] else 0


def ask(place: Place) -> dict[str, Any]:
    """The journal's own figures. Raises BusUnreachable when it does not answer."""
    from kloros.chembus.journal.blocking import journal_status
    from kloros.chembus.journal.contract import JOURNAL_SOCKET
    from kloros.clock import SystemClock
    from kloros.errors import NoBus

    socket = place.runtime / JOURNAL_SOCKET
    figures = journal_status(f"ipc://{socket}", SystemClock(), _ANSWER_WITHIN_S) if socket.exists() else None
    if figures is None:
        raise NoBus(endpoint=socket, hint="Is kloros-chem-proxy running? (kloros status)")
    return figures


def lines_of(figures: dict[str, Any]) -> list[str]:
    """What a person reads."""
    counters = figures["counters"]
    if figures["lack"]:
        lines = [f"LACKING  {figures['lack']}"]
    else:
        first, end = figures.get("first_offset"), figures.get("end_offset", 0)
        kept = f"offsets {first} to {end}" if first else f"nothing (the next offset is {end + 1})"
        lines = [
            f"journal {figures['journal']} keeps {kept}, {_mb(figures['used_bytes'])} of {_mb(figures['max_bytes'])}"
        ]
    lines.append(
        f"since the proxy's start: {counters['appended']} kept in {counters['commits']} commits,"
        f" {counters['repeated']} sent twice, {counters['refused_disk'] + counters['refused_bad']} refused"
    )
    if counters["pruned_unread"]:
        lines.append(f"deleted before everyone had read it, for want of room: {counters['pruned_unread']}")
    if figures.get("set_aside"):
        lines.append(f"a damaged file was set aside: {figures['set_aside']}")
    consumers = figures.get("consumers", [])
    lines += [
        f"  {harmless(each['name']):<26} at {each['offset']:>10}, {each['behind']:>8} behind" for each in consumers
    ]
    return lines if consumers else [*lines, "  no consumer is known"]


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
