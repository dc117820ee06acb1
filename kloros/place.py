"""Where the suite's files live on this machine: config, state, runtime directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

INSTALLED_UNDER = Path("/opt/kloros")
SYSTEM_RUNTIME_DIR = Path("/run/kloros")
BUS_SOCKET = "bus.pub"  # the proxy's socket that publishers connect to; its presence marks a running suite

_PACKAGE = Path(__file__).parent
_CHECKOUT_CONFIG = _PACKAGE.parent / "config"
_PACKAGED_CONFIG = _PACKAGE / "default_config"


@dataclass(frozen=True)
class Place:
    """Three directories. `state` holds one directory per daemon; `runtime` holds the bus sockets and locks.

    suite: where the suite's own state is, for a daemon that keeps its own elsewhere.
    """

    config: Path
    state: Path
    runtime: Path
    suite: Path | None = None

    @property
    def suite_state(self) -> Path:
        """Where the suite's own state is, staged versions among it."""
        return self.suite or self.state

    @classmethod
    def system(cls) -> Place:
        """Where the installed suite lives."""
        return cls(Path("/etc/kloros"), Path("/var/lib/kloros"), SYSTEM_RUNTIME_DIR)

    @classmethod
    def user(cls, environment: Mapping[str, str] = os.environ) -> Place:
        """Where a person's own suite lives: the XDG directories, with the settings the package brings."""
        home = Path(environment.get("HOME", "/"))
        state = Path(environment.get("XDG_STATE_HOME") or home / ".local/state") / "kloros"
        runtime_base = environment.get("XDG_RUNTIME_DIR")
        runtime = Path(runtime_base) / "kloros" if runtime_base else state / "run"
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "kloros"
        return cls(config if config.is_dir() else default_config_dir(), state, runtime)

    @classmethod
    def discover(cls, environment: Mapping[str, str] = os.environ) -> Place:
        """The suite meant here: KLOROS_*_DIR win; then the installed suite, for its own command and wherever its bus
        is up; then the user's own."""
        is_system = Path(sys.prefix) == INSTALLED_UNDER or _can_see(SYSTEM_RUNTIME_DIR / BUS_SOCKET)
        base = cls.system() if is_system else cls.user(environment)
        named = {
            field: Path(value)
            for field, variable in (
                ("config", "KLOROS_CONFIG_DIR"),
                ("state", "KLOROS_STATE_DIR"),
                ("runtime", "KLOROS_RUNTIME_DIR"),
                ("suite", "KLOROS_SUITE_STATE_DIR"),
            )
            if (value := environment.get(variable))
        }
        return replace(base, **named)


def default_config_dir() -> Path:
    """The settings that come with the package: beside it in a checkout, inside it when installed."""
    return _CHECKOUT_CONFIG if _CHECKOUT_CONFIG.is_dir() else _PACKAGED_CONFIG


def _can_see(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # someone who may not look into the directory does not belong to that suite
        return False
