"""Both ends of the throughput benchmark, each a process of its own: a publisher and a subscriber, in several kinds.

Nothing is lost because the subscriber says, every few thousand messages, how far it is, and the publisher keeps no
more than a window of messages on the way.
"""

from __future__ import annotations

import argparse
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq
from bare import publisher, subscriber

from kloros.chembus.declaration import Signal
from kloros.chembus.endpoints import Endpoints
from kloros.chembus.envelope import Message
from kloros.chembus.facts import TriggerFacts
from kloros.chembus.incarnation import new_pub
from kloros.chembus.poller import Poller
from kloros.chembus.pub import ChemPub
from kloros.chembus.sub import ChemSub
from kloros.chembus.vocabulary import VOCABULARY
from kloros.chembus.zmq_bus import ZmqBus
from kloros.clock import SystemClock

SIGNAL = "Q_THROUGHPUT"
TOPIC = SIGNAL.encode()
WINDOW = 8_000  # messages on the way at most: less than any queue on the way
ACK_EVERY = 1_000


class ThroughputFacts(TriggerFacts, kw_only=True):
    """As long as a trigger's."""


def declare() -> None:
    """Put the benchmark's signal into the vocabulary, without a rate limit."""
    VOCABULARY.declare(
        Signal(name=SIGNAL, facts=ThroughputFacts, ecosystem="bench", summary="A benchmark.", rate_per_s=None)
    )


def fields(number: int) -> dict[str, Any]:
    """What every contender sends: the facts of a trigger."""
    now_s = time.time()
    return {
        "schedule": "introspection_scan",
        "beat": 350_000_000 + number,
        "due_ts": now_s,
        "interval_s": 5.0,
        "pace": 1.0,
        "reason": "due",
        "late_s": 0.0001,
        "scheduler": "scheduler_daemon",
        "epoch": 1_750_000_000_000,
    }


# Publishers: each returns a function that sends message `number`.


def bus_publisher(runtime: str) -> Callable[[int], object]:
    """A daemon's bus, with facts as a struct."""
    declare()
    bus = ZmqBus(Endpoints.for_runtime_dir(Path(runtime)), name="throughput_publisher")
    bus.join(10.0)
    return lambda number: bus.emit(SIGNAL, ThroughputFacts(**fields(number)))


def chem_publisher(runtime: str) -> Callable[[int], object]:
    """ChemPub, with facts as a dict."""
    declare()
    pub = ChemPub(Endpoints.for_runtime_dir(Path(runtime)), "throughput_publisher")
    return lambda number: pub.emit(SIGNAL, ecosystem="bench", facts=fields(number))


def raw_publisher(runtime: str, body_bytes: int) -> Callable[[int], object]:
    """Two ready-made frames."""
    socket, frames = publisher(runtime), [TOPIC, b"x" * body_bytes]
    return lambda _number: socket.send_multipart(frames)


def raw_frames_publisher(runtime: str, body_bytes: int) -> Callable[[int], object]:
    """Two ready-made frames by the quickest calls there are, beneath pyzmq's own send_multipart."""
    socket, body, send_frame = publisher(runtime), b"x" * body_bytes, zmq.backend.Socket.send

    def send(_number: int) -> None:
        send_frame(socket, TOPIC, zmq.SNDMORE)
        send_frame(socket, body)

    return send


def json_publisher(runtime: str) -> Callable[[int], object]:
    """The envelope as a dict, through json.dumps."""
    socket, name = publisher(runtime), f"throughput_publisher@{uuid.uuid4().hex}"

    def send(number: int) -> None:
        message = {
            "signal": SIGNAL,
            "ecosystem": "bench",
            "intensity": 1.0,
            "facts": fields(number),
            "incident_id": None,
            "trace": None,
            "ts": time.time(),
            "schema_version": 1,
            "channel": "legacy",
            "id": f"{name}.{number}",
            "pub": name,
            "seq": number + 1,
        }
        socket.send_multipart([TOPIC, json.dumps(message, separators=(",", ":")).encode()])

    return send


# Subscribers: each calls `on_beat` with the beat number of every message, for ever.


def bus_subscriber(runtime: str, on_beat: Callable[[int], None]) -> None:
    """A daemon's way to listen: a poller, a bus, batches of typed messages."""
    declare()
    bus = ZmqBus(Endpoints.for_runtime_dir(Path(runtime)), name="throughput_subscriber")
    bus.subscribe(SIGNAL)
    bus.join(10.0)
    poller = Poller()
    poller.register(bus)
    print("ready", flush=True)
    while True:
        poller.wait(None)
        for message in bus.receive(256):
            on_beat(message.facts.beat)


def chem_subscriber(runtime: str, on_beat: Callable[[int], None]) -> None:
    """ChemSub: a receiving thread, a queue, a handler in a thread of its own that is given a dict."""
    declare()
    endpoints_ = Endpoints.for_runtime_dir(Path(runtime))
    ChemSub(SIGNAL, lambda message: on_beat(message["facts"]["beat"]), "throughput_subscriber", endpoints=endpoints_)
    print("ready", flush=True)
    while True:
        time.sleep(60)


def raw_subscriber(runtime: str, on_beat: Callable[[int], None]) -> None:
    """Frames, as they come."""
    socket = subscriber(runtime, SIGNAL)
    time.sleep(0.5)
    print("ready", flush=True)
    number = 0
    while True:
        _topic, _body = socket.recv_multipart()
        on_beat(number)
        number += 1


def raw_frames_subscriber(runtime: str, on_beat: Callable[[int], None]) -> None:
    """Frames by the quickest calls there are, trusting that each message has two."""
    socket = subscriber(runtime, SIGNAL)
    time.sleep(0.5)
    print("ready", flush=True)
    number, receive = 0, zmq.backend.Socket.recv
    while True:
        receive(socket)
        receive(socket)
        on_beat(number)
        number += 1


def json_subscriber(runtime: str, on_beat: Callable[[int], None]) -> None:
    """Frames, through json.loads."""
    socket = subscriber(runtime, SIGNAL)
    time.sleep(0.5)
    print("ready", flush=True)
    while True:
        _topic, body = socket.recv_multipart()
        message = json.loads(body)
        on_beat(message["facts"]["beat"])


def message_bytes() -> int:
    """How long the second frame of our messages is."""
    pub = new_pub("throughput_publisher", SystemClock())
    facts = ThroughputFacts(**fields(50_000))
    message = Message(signal=SIGNAL, ecosystem="bench", facts=facts, ts=time.time(), id=pub, pub=pub, seq=50_000)
    return len(msgspec.json.encode(message))


def publish(runtime: str, send: Callable[[int], object], count: int) -> None:
    """Send `count` messages, a window at a time; print when the first left and when the last was handled."""
    acks = zmq.Context.instance().socket(zmq.PULL)
    acks.bind(f"ipc://{runtime}/acks")
    print("ready", flush=True)
    sent = handled = 0
    began_s = time.monotonic()
    while handled < count:
        while sent < count and sent - handled < WINDOW:
            send(sent)
            sent += 1
        if acks.poll(0 if sent - handled < WINDOW and sent < count else 5_000):
            handled += int(acks.recv())
        elif sent == count or sent - handled >= WINDOW:
            break  # lost on the way
    print(f"result {json.dumps([sent, handled, time.monotonic() - began_s])}", flush=True)


def handle(runtime: str, listen: Callable[[str, Callable[[int], None]], None]) -> None:
    """Count what is heard, and tell the publisher."""
    acks = zmq.Context.instance().socket(zmq.PUSH)
    acks.connect(f"ipc://{runtime}/acks")
    count = total = 0

    def on_beat(beat: int) -> None:
        nonlocal count, total
        total += beat
        count += 1
        if count == ACK_EVERY:
            count = 0
            acks.send(b"%d" % ACK_EVERY)

    listen(runtime, on_beat)


def main() -> None:
    """Run one end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=["publisher", "subscriber"])
    parser.add_argument("kind", choices=["bus", "chem", "raw", "raw-frames", "json"])
    parser.add_argument("runtime")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--body-bytes", type=int, default=400)
    given = parser.parse_args()
    assert given.count % ACK_EVERY == 0
    if given.end == "subscriber":
        subscribers = {
            "bus": bus_subscriber, "chem": chem_subscriber, "json": json_subscriber,
            "raw": raw_subscriber, "raw-frames": raw_frames_subscriber,
        }  # fmt: skip
        handle(given.runtime, subscribers[given.kind])
    elif given.kind.startswith("raw"):
        raw = raw_publisher if given.kind == "raw" else raw_frames_publisher
        publish(given.runtime, raw(given.runtime, given.body_bytes), given.count)
    else:
        makers = {"bus": bus_publisher, "chem": chem_publisher, "json": json_publisher}
        publish(given.runtime, makers[given.kind](given.runtime), given.count)


if __name__ == "__main__":
    main()
