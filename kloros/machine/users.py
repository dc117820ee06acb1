"""Whether users and groups exist, as the machine's own lookup (nsswitch) says."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from pathlib import Path

# Whoever has no number in a user namespace has this one there: user_namespaces(7).
OVERFLOW_ID = 65_534
_ALL = 4_294_967_295


def sees_all_users(proc: Path = Path("/proc")) -> bool:
    """Whether this process is told the owners of files as they are."""
    try:
        return proc.joinpath("self/uid_map").read_text(encoding="ascii").split() == ["0", "0", str(_ALL)]
    except OSError:
        return True


def user_exists(name: str) -> bool:
    """By name or number; a number always does."""
    return name.isdigit() or _is_known(pwd.getpwnam, name)


def group_exists(name: str) -> bool:
    """By name or number; a number always does."""
    return name.isdigit() or _is_known(grp.getgrnam, name)


def _is_known(lookup: Callable[[str], object], name: str) -> bool:
    try:
        lookup(name)
    except KeyError:
        return False
    return True


def user_name(number: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """The name of a group, or its number."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
