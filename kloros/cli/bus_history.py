"""`kloros bus history` and `kloros bus replay`: what passed, and the same again."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.names import complete_signal
from kloros.cli.output import JsonOption, json_line, say
from kloros.cli.units import real

if TYPE_CHECKING:
    from kloros.chembus.envelope import Message
    from kloros.place import Place

DEFAULT_LIMIT, MOST, MOST_WAIT_S = 100, 1_000_000_000, 86_400
EXIT_NOTHING = 1

SignalOption = Annotated[
    list[str] | None,
    typer.Option("--signal", "-s", help="Only this one; `Q_TRIGGER_*` a family.", autocompletion=complete_signal),
]
DaemonOption = Annotated[list[str] | None, typer.Option("--daemon", "-d", help="Only what this one emitted.")]
IncidentOption = Annotated[str | None, typer.Option("--incident", help="Only this incident.")]


def history(
    signal: SignalOption = None,
    daemon: DaemonOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From then on: 10m (ago), 16:30, 2025-11-17.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Until then.")] = None,
    incident: IncidentOption = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="At most so many, the newest.")] = DEFAULT_LIMIT,
    everything: Annotated[bool, typer.Option("--all", help="All there are, from the oldest on.")] = False,
    json: JsonOption = False,
) -> int:
    """Show what passed on the bus, and where something is missing. Exit code 1: there is nothing like that."""
    from kloros.cli.history import HistoryPrinter, open_history, question
    from kloros.clock import SystemClock

    wanted = question(signal or (), daemon or (), since, until, incident, SystemClock().wall_us())
    with open_history() as reader:
        entries = reader.read(wanted) if everything else reader.newest(wanted, limit)
        count = HistoryPrinter(json).show(entries)
    if not count:
        print("kloros: nothing like that is in the history", file=sys.stderr)
    elif count == limit and not everything:
        print(f"kloros: these are the newest {limit}; --limit or --all shows more", file=sys.stderr)
    return 0 if count else EXIT_NOTHING


def replay(
    since: Annotated[str, typer.Option("--from", metavar="WHEN", help="From then on: 2h (ago), 16:30, 2025-11-17.")],
    until: Annotated[str, typer.Option("--to", metavar="WHEN", help="Until then.")] = "now",
    speed: Annotated[
        float, typer.Option(min=0, callback=real, help="So many times as fast; 0: without waiting.")
    ] = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this signal; `Q_TRIGGER_*` a family. May be given again.", autocompletion=complete_signal
        ),
    ] = None,
    daemon: DaemonOption = None,
    live: Annotated[bool, typer.Option("--live", help="Onto the live bus: every daemon there acts on it.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, max=MOST_WAIT_S, callback=real, help="Seconds before a private bus begins, to join it."),
    ] = 5.0,
    json: JsonOption = False,
) -> int:
    """Emit again what passed, in its order and with its pauses: onto a private bus, unless told otherwise."""
    from kloros.cli.client import require_bus
    from kloros.cli.history import open_history, question
    from kloros.cli.replay import Tally, emit_again, play, private_place, replay_bus, unfolded
    from kloros.clock import SystemClock
    from kloros.place import Place

    clock, home = SystemClock(), Place.discover()
    wanted = question(only or (), daemon or (), since, until, None, clock.wall_us())
    tally = Tally()
    if live:
        require_bus(home)
    with ExitStack() as stack:
        reader = stack.enter_context(open_history(home))
        place = home if live else stack.enter_context(private_place(home))
        bus = stack.enter_context(replay_bus(place))
        _announce(place, live, wait)
        if not live and wait:
            clock.sleep(wait)

        def emit(message: Message) -> None:
            if emit_again(bus, message):
                tally.emitted += 1
                _show(message, json)
            else:
                tally.refused += 1

        play(unfolded(reader.read(wanted), tally), clock, speed, emit)
    _conclude(tally, json)
    return 0 if tally.emitted and not tally.refused else EXIT_NOTHING


def _announce(place: Place, is_live: bool, wait_s: float) -> None:
    if is_live:
        print(f"kloros: replaying onto the live bus {place.runtime}", file=sys.stderr)
        return
    start = f", in {wait_s:g} s" if wait_s else ""
    print(
        f"kloros: replaying onto a private bus{start}. To be on it, in another terminal:\n"
        f"  export KLOROS_RUNTIME_DIR={place.runtime} KLOROS_STATE_DIR={place.state}",
        file=sys.stderr,
    )


def _show(message: Message, is_json: bool) -> None:
    if is_json:
        json_line(message)
        return
    from kloros.cli.story.narrate import narrate

    say(str(narrate(message)))


def _conclude(tally: object, is_json: bool) -> None:
    told = vars(tally)
    if is_json:
        json_line({"replay": told})
        return
    notes = [f"{told['emitted']} messages replayed"]
    notes += [f"{told[name]} {name}" for name in ("refused", "missing", "unreadable") if told[name]]
    print(f"kloros: {', '.join(notes)}", file=sys.stderr)
