"""Whether a program can be run: whether its file is there, executable, and its interpreter too."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from kloros.machine.names import readable
from kloros.machine.users import OVERFLOW_ID, group_name, sees_all_users, user_name

Fault = Literal["missing", "directory", "not_executable", "bad_interpreter", "bad_format", "unseen"]
_ELF = b"\x7fELF"
_FIRST_LINE = 256


class Program(NamedTuple):
    """`fault` is None when nothing is wrong with it; `unseen` when we may not look. interpreter: after `#!`."""

    path: str
    fault: Fault | None = None
    interpreter: str | None = None


def look_at_program(path: str) -> Program:
    """As somebody who may look at `path`, not necessarily run it."""
    try:
        mode = Path(path).stat().st_mode
    except PermissionError:
        return Program(path, "unseen")
    except (OSError, ValueError):
        return Program(path, "missing")
    if stat.S_ISDIR(mode):
        return Program(path, "directory")
    if not mode & 0o111:
        return Program(path, "not_executable")
    try:
        with Path(path).open("rb") as file:
            head = file.read(_FIRST_LINE)
    except OSError:
        return Program(path)  # executable, not readable: that is allowed
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n")[0].split()
        interpreter = os.fsdecode(words[0]) if words else ""
        return Program(path, None if _is_there(interpreter) else "bad_interpreter", readable(interpreter))
    return Program(path, None if head.startswith(_ELF) else "bad_format")


def describe_access(path: str) -> str | None:
    """`root:shadow, mode 0640`; None when it cannot be seen or is not there.

    Inside a user namespace (PrivateUsers=) other owners cannot be told apart, and only the mode is said.
    """
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return None
    mode = f"mode {stat.S_IMODE(state.st_mode):04o}"
    if OVERFLOW_ID in (state.st_uid, state.st_gid) and not sees_all_users():
        return mode
    return f"{user_name(state.st_uid)}:{group_name(state.st_gid)}, {mode}"


def _is_there(path: str) -> bool:
    try:
        return bool(path) and Path(path).exists()
    except OSError:
        return True  # not ours to see, so not for us to say that it is missing
