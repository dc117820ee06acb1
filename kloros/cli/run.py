"""`kloros run`: the whole suite in one process."""

from __future__ import annotations

from typing import Annotated

import typer

from kloros.cli.units import parse_duration


def run(
    seconds_text: Annotated[
        str | None, typer.Option("--seconds", metavar="N", help="End by itself after so long (20, 90s, 10m).")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line per signal instead of the live view, as when piped.")
    ] = False,
) -> int:
    """Run the whole suite here, and watch it.

    Bus, scheduler and consumers in one process, without root or systemd.

    Ctrl-C (or q in the live view) ends it cleanly; a second Ctrl-C at once. State is kept for the next run.
    """
    seconds = None if seconds_text is None else parse_duration(seconds_text)

    from kloros.cli.running.stopping import StopAsked

    # Before the slow imports: a Ctrl-C from here on is an order to stop, exit code 0.
    with StopAsked() as stop:
        from kloros.cli.running.session import run_suite

        return run_suite(seconds, plain, stop)
