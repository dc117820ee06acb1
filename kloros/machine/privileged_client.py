"""Asks the privileged helper for something; every wait is bounded."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec

from kloros.errors import HelperAway, HelperFailed, HelperRefused, HelperSilent
from kloros.machine.privileged_protocol import MOST_BYTES, SOCKET, Answer, AnyRequest

_CONNECT_TIMEOUT_S = 2.0
_TIMEOUT_S = 30.0
_MOST_PARTS = 16


class PrivilegedClient:
    """The helper of the suite whose runtime directory is given. Each request has a connection of its own."""

    def __init__(self, runtime: Path) -> None:
        self._path = runtime / SOCKET

    @property
    def is_there(self) -> bool:
        """Whether there is a socket to ask at."""
        return self._path.is_socket()

    def ask(self, request: AnyRequest, timeout_s: float = _TIMEOUT_S) -> Answer:
        """Have it done; returns what came of it.

        Raises:
            HelperAway: Nobody listens; nothing was done.
            HelperRefused: It is not allowed; nothing was done.
            HelperFailed: It was tried.
            HelperSilent: It may have been done, or may be yet.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            self._connect(connection)
            try:
                connection.settimeout(timeout_s)
                connection.sendall(msgspec.json.encode(request) + b"\n")
                connection.shutdown(socket.SHUT_WR)
                line = _answer_line(connection)
            except TimeoutError as error:
                raise HelperSilent(timeout_s=timeout_s) from error
            except OSError as error:
                raise HelperFailed(reason=f"the connection broke ({error.strerror})") from error
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.DecodeError as error:
            raise HelperFailed(reason="it ended without an answer; see journalctl -t kloros-helper") from error
        if answer.outcome == "refused":
            raise HelperRefused(reason=answer.reason)
        if answer.outcome == "failed":
            raise HelperFailed(reason=answer.reason)
        return answer

    def _connect(self, connection: socket.socket) -> None:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            raise HelperAway(path=self._path, reason=error.strerror or "no answer") from error


def _answer_line(connection: socket.socket) -> bytes:
    line = b""
    for _ in range(_MOST_PARTS):
        part = connection.recv(MOST_BYTES)
        line += part
        if not part or line.endswith(b"\n"):
            break
    return line
