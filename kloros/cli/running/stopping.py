"""Being asked to stop: once gracefully, twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType

_ORDERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopAsked:
    """True once SIGINT, SIGTERM or SIGHUP came, while in its `with`; the second one ends the process at once.

    `before_exit` is called first then: to give the terminal back. Afterwards SIGINT is ignored: what is left of the
    process is its own ending, which a nervous second Ctrl-C must not spoil.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self.before_exit: Callable[[], None] = lambda: None

    def __enter__(self) -> StopAsked:
        for number in _ORDERS:
            signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in _ORDERS:
            signal.signal(number, signal.SIG_IGN)

    def __bool__(self) -> bool:
        return self._is_asked

    def ask(self) -> None:
        """Ask from within, as by a key."""
        self._is_asked = True

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._is_asked:
            self.before_exit()
            os._exit(128 + number)
        self._is_asked = True
