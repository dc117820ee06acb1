"""Socket options, in one place, so that every queue on the way has a bound that somebody chose."""

from __future__ import annotations

from dataclasses import dataclass

import zmq

from kloros.chembus.envelope import MAX_FRAME_BYTES

_RECONNECT_IVL_MS = 10
_RECONNECT_IVL_MAX_MS = 100  # while the proxy is away: ten attempts a second cost next to nothing
_ZMTP_HEARTBEAT_MS = 5_000
_ZMTP_TIMEOUT_MS = 15_000  # a peer that is silent for so long is half-open


@dataclass(frozen=True)
class SocketLimits:
    """Queue limits in messages, per peer, and how long a closing socket may go on sending."""

    send_queue: int = 50_000
    receive_queue: int = 50_000
    linger_ms: int = 500


def tune(socket: zmq.Socket[bytes], limits: SocketLimits) -> None:
    """Apply what every socket of the bus has in common, before it is bound or connected."""
    socket.set(zmq.SNDHWM, limits.send_queue)
    socket.set(zmq.RCVHWM, limits.receive_queue)
    socket.set(zmq.LINGER, limits.linger_ms)
    socket.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.set(zmq.RECONNECT_IVL, _RECONNECT_IVL_MS)
    socket.set(zmq.RECONNECT_IVL_MAX, _RECONNECT_IVL_MAX_MS)
    socket.set(zmq.HEARTBEAT_IVL, _ZMTP_HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, _ZMTP_TIMEOUT_MS)
    socket.set(zmq.HEARTBEAT_TTL, _ZMTP_TIMEOUT_MS)
