"""The terminal while `kloros top` has it: drawn on its alternate screen, given back however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

from rich.console import Group
from rich.live import Live
from rich.text import Text

from kloros.cli.output import console
from kloros.cli.running.keys import Keys


class Screen:
    """Use it in a `with`. `is_gone`: the terminal was closed under us."""

    def __init__(self) -> None:
        self._console = console()
        self._keys = Keys()
        self._live: Live | None = None
        self._is_sent_back = False
        self._is_gone = False

    def __enter__(self) -> Screen:
        self._take()
        signal.signal(signal.SIGTSTP, self._hear_stop)
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    @property
    def is_gone(self) -> bool:
        """Whether there is nobody to draw for any more."""
        return self._is_gone or self._keys.is_gone

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        return self._console.size

    @property
    def keyboard(self) -> int | None:
        """What to wait on for keys."""
        return self._keys.descriptor

    def typed(self) -> str:
        """What was typed since the last look; never waits."""
        return self._keys.typed()

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines."""
        if self._live is None:
            return
        try:
            self._live.update(Group(*lines), refresh=True)
        except OSError:
            self._is_gone = True

    def step_aside(self) -> None:
        """If Ctrl-Z was typed: give the terminal back, sleep until the shell wakes us, and take it again."""
        if not self._is_sent_back:
            return
        self._is_sent_back = False
        self.give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._hear_stop)
        self._take()

    def give_back(self) -> None:
        """The terminal as it was; safe at any time, and when it has gone."""
        live, self._live = self._live, None
        with suppress(OSError):
            if live is not None:
                live.stop()
        self._keys.restore()

    def _take(self) -> None:
        self._keys.__enter__()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)
        self._live.start()

    def _hear_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_sent_back = True
