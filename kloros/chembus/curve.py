"""CURVE: a bus across machines, where only those clients are let in whose keys are known.

Keys are Z85 strings of 40 characters, as `zmq.curve_keypair()` makes them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"
_ZAP_FRAMES = 7  # version, request, domain, address, identity, mechanism, key
_KEY_CHARACTERS = 40


@dataclass(frozen=True)
class CurveKeys:
    """One's own pair of keys, and whom one trusts: as a client the proxy's key, as the proxy those of its clients."""

    public: str
    secret: str = field(repr=False)
    server: str = ""
    clients: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        named = {"public": self.public, "secret": self.secret, **{f"client {key}": key for key in self.clients}}
        if self.server:
            named["server"] = self.server
        for name, key in named.items():
            if len(key) != _KEY_CHARACTERS or not key.isascii():
                raise ValueError(f"the {name} key is not a Z85 string of {_KEY_CHARACTERS} characters")


def secure_client(socket: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Let a socket connect only to the proxy that has the key; before it connects."""
    if keys is None:
        return
    socket.set(zmq.CURVE_PUBLICKEY, keys.public.encode())
    socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())
    socket.set(zmq.CURVE_SERVERKEY, keys.server.encode())


def secure_server(socket: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Let in only known clients at the endpoints that are bound from now on; everyone again with None."""
    socket.set(zmq.CURVE_SERVER, keys is not None)
    if keys is not None:
        socket.set(zmq.CURVE_PUBLICKEY, keys.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())


class Doorkeeper:
    """Answers ZeroMQ's question (ZAP, RFC 27) whether a client may come in: by its key, and no otherwise."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], clients: frozenset[str]) -> None:
        self._known = frozenset(z85.decode(key) for key in clients)
        self._asked = context.socket(zmq.REP)
        self._asked.set(zmq.LINGER, 0)
        self._asked.bind(_ZAP_ENDPOINT)
        self._inner, self._outer = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        self._inner.bind("inproc://doorkeeper")
        self._outer.connect("inproc://doorkeeper")
        self._thread = threading.Thread(target=self._run, name="chem-doorkeeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._outer.send(b"")
        self._thread.join()
        for each in (self._outer, self._inner, self._asked):
            each.close(0)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._asked, zmq.POLLIN)
        poller.register(self._inner, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._inner in ready:
                return
            self._asked.send_multipart(self._answer(self._asked.recv_multipart()))

    def _answer(self, question: list[bytes]) -> list[bytes]:
        known = len(question) == _ZAP_FRAMES and question[5] == b"CURVE" and question[6] in self._known
        verdict = (b"200", b"OK", b"client") if known else (b"400", b"unknown key", b"")
        return [_ZAP_VERSION, question[1] if len(question) > 1 else b"", *verdict, b""]
