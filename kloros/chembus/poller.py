"""Waiting on buses and plain descriptors at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import zmq


@runtime_checkable
class HasPollables(Protocol):
    """Something that is ready when any of several things is: a Bus."""

    def pollables(self) -> Sequence[Any]: ...


class Poller:
    """Waits until something registered is ready to be read."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._owners: dict[Hashable, Any] = {}
        self._keys: dict[int, list[Any]] = {}

    def register(self, ready: Any) -> None:
        """Wait on a Bus, a descriptor number, or an object with `fileno()`."""
        parts = list(ready.pollables()) if isinstance(ready, HasPollables) else [ready]
        keys = [part if isinstance(part, (int, zmq.Socket)) else part.fileno() for part in parts]
        for key in keys:
            self._poller.register(key, zmq.POLLIN)
            self._owners[key] = ready
        self._keys[id(ready)] = keys

    def unregister(self, ready: Any) -> None:
        """Wait on it no longer; a stranger is ignored."""
        for key in self._keys.pop(id(ready), []):
            self._poller.unregister(key)
            del self._owners[key]

    def wait(self, timeout_s: float | None) -> list[Any]:
        """What is ready, each once; empty after `timeout_s` (rounded up to whole milliseconds; None: for ever)."""
        timeout_ms = None if timeout_s is None else max(0, math.ceil(timeout_s * 1000))
        ready: dict[int, Any] = {}
        for key, _ in self._poller.poll(timeout_ms):
            owner = self._owners[key]
            ready[id(owner)] = owner
        return list(ready.values())
