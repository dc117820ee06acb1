"""`kloros maintenance`: let everything rest, and work again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled
from kloros.cli.units import clock_time, parse_duration

if TYPE_CHECKING:
    from kloros.chembus.facts import HeartbeatFacts, TickFacts
    from kloros.cli.client import Client

app = typer.Typer(help="Let everything rest, and work again.", rich_markup_mode=None, no_args_is_help=True)

CONFIRM_TIMEOUT_S = 3.0


@app.command()
def on(
    span_text: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End by itself after so long: 90, 30m, 2h.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Shown by status and in the logs.")] = None,
) -> int:
    """Suspend all work: no triggers, no fallback, no cycles. Returns once the daemons say that they rest."""
    from kloros.chembus.facts import SuspendFacts
    from kloros.cli.client import requester

    span_s = None if span_text is None else parse_duration(span_text)
    with _client() as client:
        until_ts = None if span_s is None else client.now_ts() + span_s
        client.emit("MAINTENANCE_SUSPEND", SuspendFacts(reason=reason, requester=requester(), until_ts=until_ts))
        return _confirm(client, True, until_ts)


@app.command()
def off(reason: Annotated[str | None, typer.Option(help="Shown in the logs.")] = None) -> int:
    """Work again. Returns once the daemons say that they do."""
    from kloros.chembus.facts import ResumeFacts
    from kloros.cli.client import requester

    with _client() as client:
        client.emit("MAINTENANCE_RESUME", ResumeFacts(reason=reason, requester=requester()))
        return _confirm(client, False, None)


@app.command()
def status(json: JsonOption = False) -> int:
    """Say whether the suite rests, until when and why. Exit code 0 either way; 3 when nobody answers."""
    from kloros.cli.roll_call import ask_everyone

    with _client() as client:
        hearts, tick = ask_everyone(client, wants_tick=True)
    resting = sorted(heart.zooid for heart in hearts if heart.mode == "maintenance")
    is_on = tick.maintenance if tick else bool(resting)
    if not hearts:
        return _nobody()
    if json:
        as_json(
            {
                "maintenance": is_on,
                "until_ts": tick.maintenance_until_ts if tick else None,
                "reason": tick.maintenance_reason if tick else None,
                "resting": resting,
                "working": sorted(heart.zooid for heart in hearts if heart.zooid not in resting),
            }
        )
        return 0
    say(_sentence(is_on, tick, resting))
    return 0


def _client() -> Client:
    from kloros.cli.client import Client

    return Client("HEARTBEAT", "Q_SCHEDULE_TICK", name="kloros_maintenance")


def _sentence(is_on: bool, tick: TickFacts | None, resting: list[str]) -> str:
    if not is_on:
        others = f", but these still rest: {', '.join(resting)}" if resting else ""
        return f"maintenance is off{others}"
    until = (
        "" if tick is None or tick.maintenance_until_ts is None else f" until {clock_time(tick.maintenance_until_ts)}"
    )
    reason = f" ({tick.maintenance_reason})" if tick and tick.maintenance_reason else ""
    return styled(f"maintenance is on{until}{reason}; at rest: {', '.join(resting) or 'nobody'}", "yellow")


def _confirm(client: Client, wanted: bool, until_ts: float | None) -> int:
    """Ask until everyone who answers is as wanted, at most CONFIRM_TIMEOUT_S; tell who is not."""
    from kloros.cli.roll_call import ask_everyone

    end_s = client.clock.monotonic_s() + CONFIRM_TIMEOUT_S
    while True:
        hearts, _ = ask_everyone(client, wants_tick=False)
        hearts = [heart for heart in hearts if heart.mode is not None]  # plain clients do not know maintenance
        others = [heart.zooid for heart in hearts if not _is_as_wanted(heart, wanted)]
        if hearts and not others:
            break
        if client.clock.monotonic_s() >= end_s:
            return _nobody() if not hearts else _not_all(others, wanted)
    who = ", ".join(sorted(heart.zooid for heart in hearts))
    until = "" if until_ts is None else f" until {clock_time(until_ts)}"
    say(
        styled(f"maintenance is on{until}; at rest: {who}", "yellow")
        if wanted
        else f"maintenance is off; at work: {who}"
    )
    return 0


def _is_as_wanted(heart: HeartbeatFacts, wanted: bool) -> bool:
    return heart.mode == "killed" or (heart.mode == "maintenance") == wanted


def _not_all(others: list[str], wanted: bool) -> int:
    state = "rest" if wanted else "work"
    print(f"kloros: these do not {state} yet: {', '.join(sorted(others))}", file=sys.stderr)
    return 1


def _nobody() -> int:
    print("kloros: no daemon answered; see `kloros status`", file=sys.stderr)
    return 3
