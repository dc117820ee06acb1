"""(b) Throughput of messages through a proxy to a handler.

Publisher, proxy and subscriber are three processes. KLoROS's messages are typed: validated and numbered when emitted,
validated and accounted for when received. Against bare pyzmq with ready-made frames of the same size, which are
neither made nor read: as pyzmq's users send them, and by the quickest calls beneath that. And against a client that
makes and reads the same envelope with the standard library's json.

The publisher keeps at most 8,000 messages on the way, so nothing is lost, and lost ones would be printed. Time runs
from the first message emitted until the last one is known to be handled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median

from harness import QUEUE_MESSAGES, arguments, children, console, in_turns, print_machine, ratio, room, script, table
from throughput_ends import message_bytes

RAW, QUICKEST, JSON = "bare pyzmq, send_multipart", "bare pyzmq, frame by frame", "pyzmq + json"
BUS, CHEM, WATCHED = "KLoROS daemon's bus", "ChemPub to ChemSub", "daemon's bus, chem_proxy_daemon"
KINDS = {RAW: "raw", QUICKEST: "raw-frames", BUS: "bus", WATCHED: "bus", CHEM: "chem", JSON: "json"}
_BARE_PROXY = script("bare.py", "proxy")
_FORWARDER = script("suite_parts.py", "forwarder")
PROXIES = {RAW: _BARE_PROXY, QUICKEST: _BARE_PROXY, JSON: _BARE_PROXY, BUS: _FORWARDER, CHEM: _FORWARDER}
LIMIT_S = 120.0


def main(given_arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = arguments(__doc__ or "").parse_args(given_arguments)
    rounds = given.rounds or (1 if given.quick else 5)
    count = 50_000 if given.quick else 200_000
    body_bytes = message_bytes()
    print_machine()
    title = f"{count:,} messages of {body_bytes} bytes through a proxy to a handler"
    console.print(f"\n{title}", style="bold")
    rates: dict[str, list[float]] = {name: [] for name in KINDS}
    lost = dict.fromkeys(KINDS, 0)
    for _, name in in_turns(list(KINDS), rounds):
        sent, handled, span_s = run(name, count, body_bytes)
        rates[name].append(handled / span_s)
        lost[name] += sent - handled
    rows = [_row(name, rates, lost[name]) for name in KINDS]
    table(f"{title} (medians over {rounds} rounds)", ("contender", "messages/s", "of bare", "of json", "lost"), rows)


def _row(name: str, rates: dict[str, list[float]], lost: int) -> list[str]:
    of_bare, of_json = ratio(rates[name], rates[RAW]), ratio(rates[name], rates[JSON])
    return [name, f"{median(rates[name]):,.0f}", f"{of_bare:.2f}x", f"{of_json:.2f}x", str(lost)]


def run(name: str, count: int, body_bytes: int) -> tuple[int, int, float]:
    """One contender: messages sent, messages handled, seconds."""
    kind = KINDS[name]
    with room() as place, children(place) as start:
        if name == WATCHED:
            (place.config / "kloros.toml").write_text("[metrics]\nenabled = false\n")
            start(["-m", "kloros.orchestration.chem_proxy_daemon"])
        else:
            start([*PROXIES[name], str(place.runtime), "--queue-messages", str(QUEUE_MESSAGES)]).wait_line("ready")
        given = (kind, place.runtime, "--count", count, "--body-bytes", body_bytes)
        start(script("throughput_ends.py", "subscriber", *given)).wait_line("ready")
        publisher = start(script("throughput_ends.py", "publisher", *given))
        sent, handled, span_s = json.loads(publisher.wait_line("result", LIMIT_S))
        return int(sent), int(handled), float(span_s)


if __name__ == "__main__":
    main()
