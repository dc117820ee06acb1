"""The floor: bare pyzmq and a bare timerfd, nothing of KLoROS. Each part runs as a process of its own.

Usage: bare.py proxy|beats|listener ...
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import struct
import time
from array import array
from pathlib import Path

import zmq

_TFD_TIMER_ABSTIME = 1
_HEAD = struct.Struct("=qq")  # due, emitted: wall microseconds


def wall_us() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1000


def endpoints(runtime: str) -> tuple[str, str]:
    """Where publishers and where subscribers connect."""
    return f"ipc://{runtime}/bus.pub", f"ipc://{runtime}/bus.sub"


def publisher(runtime: str) -> zmq.Socket[bytes]:
    """A PUB socket whose link had time to come up."""
    socket = zmq.Context.instance().socket(zmq.PUB)
    socket.set(zmq.SNDHWM, 0)
    socket.connect(endpoints(runtime)[0])
    time.sleep(0.5)
    return socket


def subscriber(runtime: str, topic: str = "") -> zmq.Socket[bytes]:
    """A SUB socket that hears everything that begins with `topic`."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.set(zmq.RCVHWM, 0)
    socket.subscribe(topic)
    socket.connect(endpoints(runtime)[1])
    return socket


def proxy(runtime: str, queue_messages: int) -> None:
    """XSUB to XPUB by zmq.proxy."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sides = []
    for kind, endpoint in zip((zmq.XSUB, zmq.XPUB), endpoints(runtime), strict=True):
        side = zmq.Context.instance().socket(kind)
        side.set(zmq.SNDHWM, queue_messages)
        side.set(zmq.RCVHWM, queue_messages)
        side.bind(endpoint)
        sides.append(side)
    print("ready", flush=True)
    zmq.proxy(*sides)


def body_of(due_us: int, emitted_us: int, padding: bytes) -> bytes:
    """The second frame of a bare trigger."""
    return _HEAD.pack(due_us, emitted_us) + padding


class _WallTimer:
    """timerfd on CLOCK_REALTIME, absolute, blocking."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(time.CLOCK_REALTIME, 0)

    def wait_until(self, due_us: int) -> None:
        seconds, us = divmod(due_us, 1_000_000)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, struct.pack("@4q", 0, 0, seconds, us * 1000), None)
        os.read(self._fd, 8)


def beats(runtime: str, jobs_file: Path, body_bytes: int) -> None:
    """Emit every job's beats when due: a list of (phase, topic) walked round and round, and a timerfd.

    All jobs have the same interval.
    """
    jobs = json.loads(jobs_file.read_text())
    interval_us = jobs[0]["interval_us"]
    turn = sorted((job["offset_us"] % interval_us, job["signal"].encode()) for job in jobs)
    padding = b"x" * (body_bytes - _HEAD.size)
    socket, timer = publisher(runtime), _WallTimer()
    print("ready", flush=True)
    base_us = (wall_us() // interval_us + 1) * interval_us
    while True:
        for phase_us, topic in turn:
            due_us = base_us + phase_us
            if due_us > wall_us():
                timer.wait_until(due_us)
            emitted_us = wall_us()
            socket.send(topic, zmq.SNDMORE)
            socket.send(body_of(due_us, emitted_us, padding))
        base_us += interval_us


def listener(runtime: str, result: Path) -> None:
    """Note when each trigger was due, emitted and received; write all of it down at SIGTERM."""
    socket = subscriber(runtime)
    socket.set(zmq.RCVTIMEO, 100)
    heard = array("q")
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    is_first = True
    while not stopping:
        try:
            _topic, body = socket.recv_multipart()
        except zmq.Again:
            continue
        received_us = wall_us()
        heard.extend((*_HEAD.unpack_from(body), received_us))
        if is_first:
            is_first = False
            print("first", flush=True)
    result.write_bytes(heard.tobytes())


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["proxy", "beats", "listener"])
    parser.add_argument("runtime", help="directory of the proxy's sockets")
    parser.add_argument("--jobs", type=Path)
    parser.add_argument("--body-bytes", type=int, default=400)
    parser.add_argument("--queue-messages", type=int, default=100_000)
    parser.add_argument("--result", type=Path)
    given = parser.parse_args()
    if given.part == "proxy":
        proxy(given.runtime, given.queue_messages)
    elif given.part == "beats":
        beats(given.runtime, given.jobs, given.body_bytes)
    else:
        listener(given.runtime, given.result)


if __name__ == "__main__":
    main()
