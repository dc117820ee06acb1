"""`kloros bus`: watch what passes, and inject signals."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli import bus_figures, bus_history
from kloros.cli.names import complete_signal
from kloros.cli.output import JsonOption, json_line, say, styled
from kloros.cli.units import real

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kloros.chembus.envelope import Message
    from kloros.cli.client import Client

app = typer.Typer(
    help="Watch the bus, ask for what passed, inject signals.", rich_markup_mode=None, no_args_is_help=True
)
app.command(name="history")(bus_history.history)
app.command(name="replay")(bus_history.replay)
app.command(name="hz")(bus_figures.hz)
app.command(name="latency")(bus_figures.latency)

# How long `emit --wait` waits for a daemon to tell of its cycle.
REACTION_TIMEOUT_S = 10.0
# Without topics, HEARTBEATs and all but every so many-th tick are left out: they say the same again and again.
TICKS_FOLDED = 10


@app.command()
def watch(
    topics: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TOPIC]...",
            help="Signals to show; `Q_TRIGGER_*` shows a family. Without any: everything, ticks folded.",
            autocompletion=complete_signal,
        ),
    ] = None,
    json: JsonOption = False,
    count: Annotated[int | None, typer.Option(help="End after so many messages.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="End after so many seconds.", min=0, callback=real)] = None,
) -> int:
    """Show what passes, one line per signal, with the daemons' reactions under it. Ctrl-C ends it (exit code 130)."""
    from kloros.cli.client import Client
    from kloros.cli.story.fold import Fold

    fold = Fold(None if topics else TICKS_FOLDED)
    with Client(*(topics or ["*"]), name="kloros_watch") as client:
        check_topics(topics or [])
        client.on_bus_change = _tell_bus_change
        shown = 0
        for message in client.messages(seconds):
            if not is_wanted(message, topics) or (not json and fold.hides(message)):
                continue
            _show(message, json)
            shown += 1
            if shown == count:
                break
    return 0


@app.command()
def emit(
    signal: Annotated[str, typer.Argument(help="The signal's name.", autocompletion=complete_signal)],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its facts.")] = None,
    facts: Annotated[str | None, typer.Option(metavar="JSON", help="Its facts as a JSON object.")] = None,
    ecosystem: Annotated[str | None, typer.Option(help="Default: the signal's own.")] = None,
    intensity: Annotated[float, typer.Option(help="From 0 to 2.", min=0, max=2)] = 1.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the reaction and show it.")] = False,
    json: JsonOption = False,
) -> int:
    """Send a signal, checked against what it carries."""
    from kloros.chembus.vocabulary import VOCABULARY
    from kloros.cli.client import Client
    from kloros.cli.facts_args import facts_from_json, facts_from_pairs

    if pairs and facts is not None:
        raise typer.BadParameter("give key=value arguments or --facts, not both")
    declared = VOCABULARY.lookup(signal)
    carried = facts_from_json(declared, facts) if facts is not None else facts_from_pairs(declared, pairs or [])
    # Its own signal is heard too: seen there, it has gone through the bus.
    topics = (signal, "Q_CYCLE_REPORT", "Q_SCHEDULE_CHANGED", "CAPABILITY_*") if wait else ()
    with Client(*topics, name="kloros_emit") as client:
        message_id = client.emit(signal, carried, ecosystem=ecosystem, intensity=intensity)
        if not wait:
            if json:
                json_line({"id": message_id, "signal": signal})
            else:
                say(f"{signal} emitted ({message_id})")
            return 0
        for message in _reaction(client, signal, message_id):
            _show(message, json)
            is_answered = message.signal in ("Q_CYCLE_REPORT", "Q_SCHEDULE_CHANGED") and message.id != message_id
            if is_answered:
                return 0
    print(
        f"kloros: no daemon told of a reaction to {signal} within {REACTION_TIMEOUT_S:g} s; see kloros status",
        file=sys.stderr,
    )
    return 1


def _reaction(client: Client, signal: str, message_id: str) -> Iterator[Message]:
    """Our message, then what daemons say because of it; the last one is the answer."""
    from kloros.chembus.facts import ChangedFacts, CycleReportFacts

    found: list[Message] = []
    is_passed = False
    for message in client.messages(REACTION_TIMEOUT_S):
        facts = message.facts
        if message.id == message_id:
            is_passed = True
            yield message
        elif not is_passed:
            continue
        elif message.signal.startswith("CAPABILITY_"):
            found.append(message)
        elif isinstance(facts, CycleReportFacts):
            if facts.source == "injected" and signal.startswith("Q_TRIGGER_"):
                yield message
                yield from found
                return
            found.clear()
        elif isinstance(facts, ChangedFacts) and facts.request_id == message_id:
            yield message
            return


def is_wanted(message: Message, topics: list[str] | None) -> bool:
    """Whether it was asked for: the bus hears HEARTBEATs besides, for its own accounting."""
    if not topics:
        return True
    return any(
        message.signal.startswith(topic[:-1]) if topic.endswith("*") else message.signal == topic for topic in topics
    )


def _show(message: Message, is_json: bool) -> None:
    if is_json:
        json_line(message)
        return
    from kloros.cli.story.narrate import narrate

    line = narrate(message)
    say(styled(str(line), line.style) if line.style else str(line))


def _tell_bus_change(is_joined: bool) -> None:
    print("kloros: the bus is back" if is_joined else "kloros: the bus is gone; waiting for it", file=sys.stderr)


def check_topics(topics: list[str]) -> None:
    """A name nobody emits is worth a word: the watcher would wait for ever."""
    from kloros.chembus.vocabulary import VOCABULARY
    from kloros.errors import UnknownSignal

    for topic in topics:
        if topic.endswith("*"):
            continue
        try:
            VOCABULARY.lookup(topic)
        except UnknownSignal as error:
            hint = f"; did you mean {error.suggestion}?" if error.suggestion else ""
            print(f"kloros: {topic} is not in the vocabulary{hint}", file=sys.stderr)
