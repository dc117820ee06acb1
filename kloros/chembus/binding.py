"""Binding an endpoint that nobody else has."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import zmq

from kloros.errors import EndpointRefused

_SOCKET_MODE = 0o660  # the directory decides who may come near; its group may talk
_UCRED = struct.Struct("3i")


def bind_alone(side: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind `side`; returns the address as bound.

    Raises:
        EndpointRefused: It is taken (says by whom, where that can be told), or cannot be bound.
    """
    _refuse_taken(endpoint)
    try:
        side.bind(endpoint)
    except zmq.ZMQError as error:
        taken = error.errno == zmq.EADDRINUSE
        reason = "another program already listens there" if taken else str(error.strerror)
        raise EndpointRefused(endpoint=endpoint, reason=reason) from None
    bound = side.get(zmq.LAST_ENDPOINT)
    return bound.rstrip(b"\0").decode() if isinstance(bound, bytes) else endpoint


def open_to_group(endpoint: str) -> Path:
    """The file of a bound ipc endpoint, which its group may use from now on."""
    path = _ipc_path(endpoint)
    path.chmod(_SOCKET_MODE)
    return path


def _ipc_path(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


def _refuse_taken(endpoint: str) -> None:
    """Binding an ipc endpoint takes it from whoever has it, without a word: so ask before."""
    if not endpoint.startswith("ipc://"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(_ipc_path(endpoint)))
        except OSError:
            return  # nobody there, or a file left behind
        holder = _peer_pid(caller)
    raise EndpointRefused(endpoint=endpoint, reason=f"another proxy already serves it{holder}")


def _peer_pid(connected: socket.socket) -> str:
    if not hasattr(socket, "SO_PEERCRED"):
        return ""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return f" (process {_UCRED.unpack(credentials)[0]})"
