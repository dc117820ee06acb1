"""`kloros top`: the suite on one screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kloros.cli.output import JsonOption, as_json

if TYPE_CHECKING:
    from kloros.cli.overview.session import Watch

# A frame for a pipe waits this long for the answers, and for the bus's rate to show.
GATHER_S = 2.5
RATE_AFTER_S = 1.0
PLAIN_COLUMNS = 120


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one plain frame and end, as when piped.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Only look: no key changes anything.")] = False,
    width: Annotated[int, typer.Option(help="Columns of the plain frame.", min=40, max=1000)] = PLAIN_COLUMNS,
    json: JsonOption = False,
) -> int:
    """Watch the suite on one screen: schedule, daemons, bus, mood, what is open; pause, trigger and explain by keys."""
    from kloros.cli.running.stopping import StopAsked

    # Before the slow imports: from here on a Ctrl-C is heard, and the terminal is given back.
    with StopAsked() as stop:
        from kloros.cli.client import Client
        from kloros.cli.overview.session import Watch
        from kloros.cli.overview.state import TOPICS

        with Client(*TOPICS, name="kloros_top") as client:
            watch = Watch(client, read_only=read_only)
            watch.begin()
            if once or json or not sys.stdout.isatty():
                return _print_once(watch, width, json)
            from kloros.cli.overview.screen import Screen

            with Screen() as screen:
                stop.before_exit = screen.give_back
                watch.run(screen, stop)
    return 0


def _print_once(watch: Watch, width: int, json: bool) -> int:
    """One frame of everything."""
    watch.gather(GATHER_S, RATE_AFTER_S)
    if json:
        as_json(_fields(watch))
    else:
        from kloros.cli.overview.layout import plain

        for line in plain(watch.scene(), width):
            print(line)
    return 0


def _fields(watch: Watch) -> dict[str, Any]:
    known, scene = watch.known, watch.scene()
    bus = known.bus
    return {
        "ts": scene.now_ts,
        "schedule": known.tick,
        "daemons": [
            {"zooid": zooid, "mode": known.mode(zooid, scene.now_ts), "last_cycle": known.cycles.get(zooid)}
            for zooid in known.daemons
        ],
        "bus": {"rate_hz": bus.rate_hz, "lost": bus.gaps, "dropped": bus.drops, "refused": bus.refused},
        "affect": known.mood,
        "open": [item._asdict() for item in known.work.all],
    }
