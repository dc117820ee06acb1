"""`kloros affect`: how the machine feels and why, and feelings by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kloros.cli.output import JsonOption, Row, as_json, say, styled, table
from kloros.cli.units import clock_time, duration, parse_duration

if TYPE_CHECKING:
    from kloros.chembus.facts import AffectFacts, TickFacts
    from kloros.cli.client import Client

app = typer.Typer(
    help="See how the machine feels and why, and inject feelings.", rich_markup_mode=None, no_args_is_help=True
)

ANSWER_TIMEOUT_S = 2.5
BAR_CELLS = 20
PREFIX = "AFFECT_"
DEFAULT_TTL_S = 45.0
DIMENSION_COLUMNS = ("dimension", ">value", "", "why")
HOLD_COLUMNS = ("feeling", "since", "until", "why")
PACED_COLUMNS = ("entry", ">pace", "until", "why")
# In the order in which a person asks; all others follow.
FIRST = ("wellbeing", "strain", "memory", "fatigue")
MOOD_STYLES = {"calm": "green", "content": "green", "low": "yellow", "strained": "yellow", "overwhelmed": "bold red"}


def _complete_feeling(incomplete: str) -> list[str]:
    return [name for name in _feelings() if name.startswith(incomplete.upper().removeprefix(PREFIX))]


@app.command()
def show(json: JsonOption = False) -> int:
    """Show the mood, its sides and their causes, what holds and until when, and which entries it paces."""
    from kloros.cli.client import Client

    with Client("AFFECT_STATE", "Q_SCHEDULE_TICK") as client:
        facts, tick = _ask(client)
        now_ts = client.now_ts()
    state: dict[str, Any] = facts.state if isinstance(facts.state, dict) else {}
    paced = _paced(tick)
    if json:
        as_json({**state, "cause": facts.cause, "signs": facts.evidence, "ttl_s": facts.ttl_s, "paced": paced})
        return 0
    _tell(state, facts.cause or "", now_ts)
    _tell_paced(paced)
    return 0


@app.command()
def emit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The feeling, for instance CRITICAL_FATIGUE.", autocompletion=_complete_feeling
        ),
    ],
    cause: Annotated[str, typer.Option(metavar="TEXT", help="What it is said to come from.")] = "by hand",
    ttl_text: Annotated[
        str, typer.Option("--ttl", metavar="DURATION", help="It ends after so long unless it is said again.")
    ] = f"{DEFAULT_TTL_S:g}s",
    span_text: Annotated[
        str | None,
        typer.Option("--for", metavar="DURATION", help="Say it again and again for so long. Ctrl-C ends it sooner."),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Inject a feeling, to see how the schedule takes it."""
    from kloros.chembus.facts import AffectFacts
    from kloros.cli.client import Client, requester

    signal = _signal(name)
    span_s = 0.0 if span_text is None else parse_duration(span_text)
    ttl_s = min(parse_duration(ttl_text), span_s or float("inf"))
    facts = AffectFacts(state="by hand", cause=cause, ttl_s=ttl_s, requester=requester())
    with Client(name="kloros_affect") as client:
        until_ts = client.now_ts() + max(ttl_s, span_s)
        if json:
            as_json({"id": client.emit(signal, facts), "signal": signal, "until_ts": until_ts})
        else:
            client.emit(signal, facts)
            say(f"{signal} emitted; it ends at {clock_time(until_ts)} unless somebody says it again")
        _say_again(client, signal, facts, ttl_s, span_s - ttl_s)
    return 0


# Showing


def _ask(client: Client) -> tuple[AffectFacts, TickFacts | None]:
    """What affect says and, if the scheduler answers too, the schedule. Raises AffectSilent."""
    from kloros.chembus.facts import AffectFacts, StatusRequestFacts, TickFacts
    from kloros.cli.client import requester
    from kloros.cli.story.ticks import TickBook
    from kloros.errors import AffectSilent

    client.emit("STATUS_REQUEST", StatusRequestFacts(requester=requester()))
    said: AffectFacts | None = None
    book = TickBook()
    for message in client.messages(ANSWER_TIMEOUT_S):
        if isinstance(message.facts, TickFacts):
            book.add(message.facts)
        elif isinstance(message.facts, AffectFacts):
            said = message.facts
        if said is not None and book.is_whole:
            break
    if said is None:
        raise AffectSilent(timeout_s=ANSWER_TIMEOUT_S)
    return said, book.whole


def _paced(tick: TickFacts | None) -> dict[str, dict[str, Any]]:
    """The entries that do not run as configured, by name."""
    return {
        name: {"pace": 0.0 if entry.held else entry.pace, "why": entry.why, "until_ts": entry.override_until_ts}
        for name, entry in (tick.entries.items() if tick else ())
        if entry.held or entry.pace != 1.0
    }


def _tell(state: dict[str, Any], cause: str, now_ts: float) -> None:
    mood, since_ts = str(state.get("mood", "unknown")), state.get("since_ts")
    since = "" if since_ts is None else f", for {duration(now_ts - since_ts)}"
    say(styled(f"{mood}{since}: {cause}", MOOD_STYLES.get(mood, "red")))
    table(DIMENSION_COLUMNS, dimension_rows(state.get("dimensions", {})))
    if rows := hold_rows(state.get("holds", {}), state.get("by_hand", {})):
        say("")
        table(HOLD_COLUMNS, rows)
    for sense, reason in state.get("blind", {}).items():
        say(styled(f"blind to {sense}: {reason}", "dim"))
    if state.get("as_of_ts", now_ts) < now_ts - 3 * ANSWER_TIMEOUT_S:
        say(styled(f"as of {duration(now_ts - state['as_of_ts'])} ago", "dim"))


def dimension_rows(dimensions: dict[str, dict[str, Any]]) -> list[Row]:
    """The sides of the mood, each with a bar."""
    names = [*(name for name in FIRST if name in dimensions), *(name for name in dimensions if name not in FIRST)]
    return [_dimension_row(name, dimensions[name]["value"], dimensions[name]["cause"]) for name in names]


def _dimension_row(name: str, value: float, cause: str) -> Row:
    trouble = 1 - value if name == "wellbeing" else value
    style = "red" if trouble >= 0.6 else "yellow" if trouble >= 0.2 else "green"
    return name, f"{value:.2f}", styled(bar(value), style), cause


def bar(value: float) -> str:
    """A share as a bar of BAR_CELLS cells."""
    filled = round(min(1.0, max(0.0, value)) * BAR_CELLS)
    return "█" * filled + "░" * (BAR_CELLS - filled)


def hold_rows(holds: dict[str, dict[str, Any]], by_hand: dict[str, dict[str, Any]]) -> list[Row]:
    """What holds, and what somebody injected."""
    own = [
        (signal.removeprefix(PREFIX), _time(each.get("since_ts")), _time(each.get("until_ts")), each["cause"])
        for signal, each in holds.items()
    ]
    injected = [
        (signal.removeprefix(PREFIX), "", _time(each["until_ts"]), f"{each['cause']} (injected by {each['requester']})")
        for signal, each in by_hand.items()
    ]
    return [*own, *injected]


def _tell_paced(paced: dict[str, dict[str, Any]]) -> None:
    if not paced:
        say("the schedule runs at its nominal pace")
        return
    say("")
    rows = [
        (name, "held" if not each["pace"] else f"{each['pace']:g}", _time(each["until_ts"]), each["why"] or "")
        for name, each in sorted(paced.items())
    ]
    table(PACED_COLUMNS, rows)


def _time(ts: float | None) -> str:
    return "" if ts is None else clock_time(ts)


# By hand


def _feelings() -> list[str]:
    from kloros.chembus.facts import AffectFacts
    from kloros.chembus.vocabulary import VOCABULARY

    names = [signal.name.removeprefix(PREFIX) for signal in VOCABULARY if signal.facts is AffectFacts]
    return [name for name in names if not name.startswith("STATE")]  # those two tell of the mood as a whole


def _signal(name: str) -> str:
    """The signal's full name. Raises typer.BadParameter when there is no such feeling."""
    import difflib

    known = _feelings()
    wanted = name.upper().removeprefix(PREFIX)
    if wanted in known:
        return f"{PREFIX}{wanted}"
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
    raise typer.BadParameter(f"{name!r} is no feeling; {hint}")


def _say_again(client: Client, signal: str, facts: AffectFacts, ttl_s: float, span_s: float) -> None:
    """Emit well before each ttl ends, until `span_s` have passed."""
    end_s = client.clock.monotonic_s() + span_s
    while (left_s := end_s - client.clock.monotonic_s()) > 0:
        client.clock.sleep(min(ttl_s / 3, left_s))
        client.emit(signal, facts)
