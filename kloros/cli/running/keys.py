"""The keyboard of the live view: typed keys are not echoed over the picture, and q is heard."""

from __future__ import annotations

import os
import select
import sys
import termios
from contextlib import suppress
from types import TracebackType
from typing import Any


class Keys:
    """Keys typed, without echo, while in its `with`. Where there is no keyboard nothing is ever typed.

    is_gone: the terminal was closed under us.
    """

    def __init__(self) -> None:
        self._saved: list[Any] | None = None
        self.is_gone = False
        try:
            self._fd = sys.stdin.fileno()
        except (OSError, ValueError):
            self._fd = -1

    def __enter__(self) -> Keys:
        if self._fd >= 0 and os.isatty(self._fd):
            self._saved = termios.tcgetattr(self._fd)
            silent = termios.tcgetattr(self._fd)
            silent[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(self._fd, termios.TCSANOW, silent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the keyboard back as it was; keys typed meanwhile are forgotten."""
        saved, self._saved = self._saved, None
        if saved is not None:
            with suppress(termios.error):  # a terminal that has gone needs nothing back
                termios.tcsetattr(self._fd, termios.TCSAFLUSH, saved)

    @property
    def descriptor(self) -> int | None:
        """What to wait on for keys; None where there is no keyboard."""
        return self._fd if self._saved is not None else None

    def typed(self) -> str:
        """What was typed since the last look; never waits."""
        if self._saved is None or not select.select([self._fd], [], [], 0)[0]:
            return ""
        try:
            typed = os.read(self._fd, 64)
        except OSError:
            typed = b""
        self.is_gone = not typed
        return typed.decode(errors="replace")
