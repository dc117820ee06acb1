"""No side effects: while a subject's code runs in this thread, files, sockets, processes and threads are out of reach.

Subjects are pure functions by contract; the import contract checks the built-in ones, this stops those of others. It
rests on Python's audit events, which tell of sleeping and of new threads only from 3.13 on. Code that means harm is not
what it is for.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_FORBIDDEN = frozenset({"open", "import", "time.sleep", "signal.pthread_kill", "_thread.start_new_thread"})
_FORBIDDEN_ROOMS = frozenset(
    {"os", "socket", "subprocess", "shutil", "sqlite3", "ctypes", "tempfile", "mmap", "fcntl", "pty", "resource",
     "syslog", "glob", "pathlib", "http", "urllib", "smtplib", "ftplib"}
)  # fmt: skip


class SideEffect(RuntimeError):
    """A subject tried to do more than compute."""


class _Confinement(threading.local):
    is_on = False


_confinement = _Confinement()
_installing = threading.Lock()
_installed: list[bool] = []


@contextmanager
def confined() -> Iterator[None]:
    """Inside, in this thread, whatever reaches out of the process's memory raises SideEffect."""
    _install()
    before, _confinement.is_on = _confinement.is_on, True
    try:
        yield
    finally:
        _confinement.is_on = before


def _install() -> None:
    """An audit hook cannot be taken away again, so there is one, and it is made when it is first needed."""
    with _installing:
        if not _installed:
            sys.addaudithook(_hear)
            _installed.append(True)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if _confinement.is_on and (event in _FORBIDDEN or event.partition(".")[0] in _FORBIDDEN_ROOMS):
        raise SideEffect(f"{event} {arguments[:1]}")
