"""`kloros bus hz` and `kloros bus latency`: how often signals are emitted, and how long they travel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.names import complete_signal
from kloros.cli.output import JsonOption, as_json, table
from kloros.cli.units import real

if TYPE_CHECKING:
    from kloros.cli.rates import Observation

DEFAULT_SECONDS = 10.0
EXIT_SILENT = 1

TopicsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TOPIC]...", help="Signals, or families (`Q_*`); without any: all.", autocompletion=complete_signal
    ),
]
SecondsOption = Annotated[float, typer.Option(min=0.1, callback=real, help="Listen for so many seconds.")]


def hz(topics: TopicsArgument = None, seconds: SecondsOption = DEFAULT_SECONDS, json: JsonOption = False) -> int:
    """How often each publisher emits each signal.

    Counted by the publishers' own sequence numbers and time stamps: exact, also where this observer loses messages.
    """
    observed = _observe(topics, seconds)
    rates = observed.rates()
    if json:
        as_json(rates)
    else:
        columns = ("signal", "publisher", ">rate/s", ">emitted", ">heard", ">missing", ">over")
        table(columns, [
            (
                rate.signal, rate.publisher, "-" if rate.rate_hz is None else f"{rate.rate_hz:.3f}",
                str(rate.emitted), str(rate.heard), str(rate.missing), f"{rate.span_s:.2f} s",
            )
            for rate in rates
        ])  # fmt: skip
    return _verdict(observed, is_silent=not rates)


def latency(topics: TopicsArgument = None, seconds: SecondsOption = DEFAULT_SECONDS, json: JsonOption = False) -> int:
    """How long signals travel from their publisher to here, in milliseconds, and how many never came."""
    observed = _observe(topics, seconds)
    latencies = observed.latencies()
    if json:
        as_json(latencies)
    else:
        columns = ("signal", ">heard", ">missing", ">p50 ms", ">p90 ms", ">p99 ms", ">max ms")
        table(columns, [
            (
                each.signal, str(each.heard), str(each.missing),
                *(f"{value:.3f}" for value in (each.p50_ms, each.p90_ms, each.p99_ms, each.max_ms)),
            )
            for each in latencies
        ])  # fmt: skip
    return _verdict(observed, is_silent=not latencies)


def _observe(topics: list[str] | None, seconds: float) -> Observation:
    from kloros.cli.bus import check_topics, is_wanted
    from kloros.cli.client import Client
    from kloros.cli.rates import Observation

    observed = Observation()
    with Client(*(topics or ["*"]), name="kloros_observer") as client:
        check_topics(topics or [])
        for message in client.messages(seconds):
            if is_wanted(message, topics):
                observed.note(message, client.now_ts())
    return observed


def _verdict(observed: Observation, *, is_silent: bool) -> int:
    if observed.unlisted:
        print(f"kloros: {observed.unlisted} messages of too many publishers are left out", file=sys.stderr)
    if is_silent:
        print("kloros: nothing was heard", file=sys.stderr)
    return EXIT_SILENT if is_silent else 0
