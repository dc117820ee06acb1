"""The power is cut while signals are promised: each that was acknowledged is on the disk, and has its effect once.

scripts/test -m own_kernel
"""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from tests.systemd.conftest import Installed
from tests.systemd.own_kernel import LINES, OwnKernel, what_is_missing
from tests.systemd.suite import LEDGER_WRITER, PROXY, PYTHON
from tests.systemd.system import wait_for

pytestmark = [pytest.mark.own_kernel, pytest.mark.timeout(1800)]

CUTS, PROMISES = 2, 150
DISK_BYTES = 256 << 20
STATE = "/var/lib/kloros"
SLOW_S, POLL_S = 120.0, 2.0
EMITTER = f"""
import time
from kloros.chembus.pub import ChemPub
with ChemPub() as bus, open({LINES!r}, "w", buffering=1) as promised:
    while True:
        facts = {{"ts": time.time(), "zooid": "emitter", "ok": True}}
        print(bus.emit("OBSERVATION", ecosystem="tests", facts=facts), file=promised)
"""
KEPT = """
import json, sqlite3, sys
journal, ledger = (sqlite3.connect(f"file:{path}?mode=ro", uri=True) for path in sys.argv[1:])
print(json.dumps([
    [row[0] for row in journal.execute("SELECT id FROM messages WHERE signal = 'OBSERVATION'")],
    [row[0] for row in ledger.execute("SELECT source FROM ledger_rows")],
]))
"""


@dataclass
class Kept:
    """What was acknowledged in any life, and what is on the disk after the last."""

    promised: set[str]
    journal: list[str]
    ledger: list[str]
    verified: str


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("power") / "disk"
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", str(path)], check=True)
    return path


def boot(installed: Installed, disk: Path) -> OwnKernel:
    """With the suite's state on that disk, the bus and the ledger writer started."""
    machine = OwnKernel(installed.files, disk)
    machine.sh(f"mount /dev/vda {STATE}; chown kloros:kloros {STATE}; chmod 750 {STATE}")
    for unit in (PROXY, LEDGER_WRITER):
        machine.systemctl("start", unit, limit_s=SLOW_S)
    return machine


@pytest.fixture(scope="module")
def kept(installed: Installed, disk: Path) -> Kept:
    if missing := what_is_missing():
        pytest.skip(f"a kernel of one's own {missing}")
    promised: set[str] = set()
    for _ in range(CUTS):
        with closing(boot(installed, disk)) as machine:
            machine.run("systemd-run", "--quiet", "--setenv=KLOROS_RUNTIME_DIR=/run/kloros", PYTHON, "-c", EMITTER)
            promised |= {line.strip() for line in islice(machine.lines, PROMISES)}
            machine.cut_power()
            promised |= {line.strip() for line in machine.lines if line.endswith("\n")}
    with closing(boot(installed, disk)) as machine:

        def worked_off() -> tuple[list[str], list[str]] | None:
            paths = (f"{STATE}/chem_proxy/journal.db", f"{STATE}/ledger_writer/state.db")
            journal, ledger = json.loads(machine.run(PYTHON, "-c", KEPT, *paths, limit_s=SLOW_S).stdout)
            return (journal, ledger) if len(ledger) >= len(journal) else None

        journal, ledger = wait_for(worked_off, SLOW_S, "the ledger writer to catch up", POLL_S)
        verified = machine.run("kloros", "ledger", "verify", check=False, limit_s=SLOW_S).stdout
        return Kept(promised, journal, ledger, verified)


def test_what_was_acknowledged_is_in_the_journal(kept: Kept) -> None:
    print(len(kept.promised), "acknowledged in", CUTS, "lives,", len(kept.journal), "in the journal")
    assert len(kept.promised) >= CUTS * PROMISES
    assert kept.promised - set(kept.journal) == set()


def test_each_has_its_effect_once(kept: Kept) -> None:
    assert sorted(kept.ledger) == sorted(set(kept.journal))


def test_the_ledger_is_whole(kept: Kept) -> None:
    assert "green" in kept.verified
