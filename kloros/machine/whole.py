"""Everything the machine tells of itself, in one hand: what an investigator is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kloros.clock import Clock, SystemClock
from kloros.machine.cgroups import Cgroups
from kloros.machine.journal_query import JournalQuery
from kloros.machine.listeners import Listeners
from kloros.machine.processes import Processes
from kloros.machine.systemd_bus import SystemdBus


@dataclass
class Machine:
    """Readers only: nothing here changes anything. For one thread at a time."""

    clock: Clock = field(default_factory=SystemClock)
    proc: Path = Path("/proc")
    systemd: SystemdBus = field(default_factory=SystemdBus)
    journal: JournalQuery = field(default_factory=JournalQuery)
    cgroups: Cgroups = field(default_factory=Cgroups)

    def __post_init__(self) -> None:
        self.processes = Processes(self.proc)
        self.listeners = Listeners(self.cgroups, self.processes, self.proc)

    def close(self) -> None:
        """Let go of what is open."""
        self.systemd.close()
