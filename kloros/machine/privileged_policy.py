"""What the privileged helper may do for whom: a file that only root can write, and the judgement by it."""

from __future__ import annotations

import os
import stat
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from kloros.config import Settings, convert
from kloros.errors import ConfigError
from kloros.machine.privileged_protocol import (
    AnyRequest,
    Property,
    ResetFailed,
    Restart,
    RevertLimit,
    SetLimit,
    Start,
    VacuumJournal,
)

ITSELF = "kloros-helper"
OUR_OWN = ("kloros-*.service",)
_BYTES_PER_MB = 1_000_000
# A limit so large is none.
INFINITY = 2**64 - 1


class UnitsPolicy(Settings, frozen=True):
    """[units]: per verb the units it may be done to."""

    restart: tuple[str, ...] = OUR_OWN
    start: tuple[str, ...] = OUR_OWN
    reset_failed: tuple[str, ...] = OUR_OWN
    limit: tuple[str, ...] = OUR_OWN


class LimitsPolicy(Settings, frozen=True):
    """[limits]: how far a limit may be raised."""

    factor_at_most: Annotated[float, Meta(gt=1, le=2)] = 2.0
    memory_share_at_most: Annotated[float, Meta(gt=0, le=1)] = 0.5
    tasks_at_most: Annotated[int, Meta(ge=1)] = 16_384
    files_at_most: Annotated[int, Meta(ge=1)] = 524_288
    persistent: bool = False


class JournalPolicy(Settings, frozen=True):
    """[journal]: whether it may be vacuumed, and how much must be left."""

    vacuum: bool = True
    keep_mb_at_least: Annotated[int, Meta(ge=1)] = 500


class HelperPolicy(Settings, frozen=True):
    """The whole file."""

    units: UnitsPolicy = UnitsPolicy()
    limits: LimitsPolicy = LimitsPolicy()
    journal: JournalPolicy = JournalPolicy()


def load_policy(path: Path, owner_uid: int = 0) -> HelperPolicy:
    """Read the policy. Raises ConfigError also when anyone but its owner could have written it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        found = error.strerror or str(error)
        raise ConfigError(file=path, key="(file)", found=found, expected="a file of root's") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner_uid or status.st_mode & 0o022:
            found = f"mode {stat.S_IMODE(status.st_mode):o} of uid {status.st_uid}"
            raise ConfigError(file=path, key="(file)", found=found, expected="a file that only root can write")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            tables = tomllib.loads(file.read().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(file=path, key="(file)", found=str(error), expected="TOML") from error
    finally:
        os.close(descriptor)
    return convert(tables, HelperPolicy, path)


def refusal(request: AnyRequest, policy: HelperPolicy) -> str | None:
    """Why this must not be done; None when it may."""
    if isinstance(request, VacuumJournal):
        least_mb = policy.journal.keep_mb_at_least
        if not policy.journal.vacuum:
            return "the policy does not let the journal be vacuumed"
        return None if request.keep_mb >= least_mb else f"the policy keeps at least {least_mb} MB of the journal"
    if (why := refusal_of_unit(request.unit, request, policy)) is not None:
        return why
    if isinstance(request, SetLimit):
        most = policy.limits.factor_at_most
        if request.factor > most:
            return f"the policy lets a limit be raised by {most:g} times at most"
        if request.persistent and not policy.limits.persistent:
            return "the policy lets no limit be raised for longer than until the next boot"
    return None


def refusal_of_unit(
    unit: str, request: Restart | Start | ResetFailed | SetLimit | RevertLimit, policy: HelperPolicy
) -> str | None:
    """Why this must not be done to `unit`, which may be the one that is asked for by another name."""
    if unit.startswith(ITSELF):
        return "the helper does nothing to itself"
    units = policy.units
    if isinstance(request, Restart):
        patterns = units.restart
    elif isinstance(request, Start):
        patterns = units.start
    elif isinstance(request, ResetFailed):
        patterns = units.reset_failed
    else:
        patterns = units.limit
    if any(fnmatchcase(unit, pattern) for pattern in patterns):
        return None
    verb = type(request).__struct_config__.tag
    return f"the policy does not let {unit} have a {verb}; what it may have: {' '.join(patterns) or 'nothing'}"


def raised(name: Property, before: int, factor: float, policy: HelperPolicy, host_memory_bytes: int) -> int | str:
    """What the limit becomes, or why it stays."""
    if before <= 0 or before >= INFINITY:
        return f"{name} is not limited" if before else f"{name} is 0, which no factor raises"
    limits = policy.limits
    most = {
        "MemoryMax": int(host_memory_bytes * limits.memory_share_at_most),
        "TasksMax": limits.tasks_at_most,
        "LimitNOFILE": limits.files_at_most,
    }[name]
    if before >= most:
        return f"{name} is {before} already, and the policy ends at {most}"
    return min(max(before + 1, int(before * min(factor, limits.factor_at_most))), most)
