"""A terminal with a program in it, its keyboard, and the screen as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import suppress

from support.command import Home

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A terminal with a program in it; `drawn` is what it drew since one last forgot, `everything` all of it."""

    def __init__(
        self,
        place: Home,
        *arguments: str,
        columns: int = 120,
        lines: int = 40,
        program: tuple[str, ...] = ("-m", "kloros.cli"),
    ) -> None:
        environment = {**place.environment, "TERM": "xterm-256color"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self.drawn = self.everything = ""
        self._master, slave = pty.openpty()
        self._is_open = True
        self.resize(columns, lines)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=environment,
            cwd=place.folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C typed into it is a SIGINT
        )

    def read(self) -> str:
        """What was drawn so far, without its colours; never waits long."""
        while self._is_open and select.select([self._master], [], [], 0.02)[0]:
            try:
                piece = os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the program has gone
                break
            self.drawn += piece
            self.everything += piece
        return _COLOURS.sub("", self.drawn)

    def forget(self) -> None:
        """Begin anew with what was drawn."""
        self.read()
        self.drawn = ""

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Drag its corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def is_given_back(self) -> bool:
        """Whether echo and line editing are as they were before."""
        return termios.tcgetattr(self.slave)[:4] == self.before[:4]

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self.slave)
        os.close(self._master)
        self._is_open = False

    def close(self) -> None:
        """End the program, and the terminal."""
        self.process.kill()
        self.process.wait()
        if self._is_open:
            with suppress(OSError):
                self.hang_up()
