"""Plain scripts on the bus, as processes: what they say arrives, and they end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from kloros.chembus.endpoints import Endpoints
from kloros.chembus.proxy import Forwarder
from kloros.chembus.zmq_bus import ZmqBus

OpenBus = Callable[..., ZmqBus]
WaitFor = Callable[..., None]
EMIT_ONE = 'emit(signal="Q_TRIGGER_INTROSPECTION", ecosystem="introspection")'


def run(script: str, endpoints: Endpoints) -> subprocess.CompletedProcess[str]:
    runtime = endpoints.publish.removeprefix("ipc://").removesuffix("/bus.pub")
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        env={**os.environ, "KLOROS_RUNTIME_DIR": runtime},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


SCRIPTS = {
    "in one line": f"from kloros.chembus.pub import ChemPub; ChemPub().{EMIT_ONE}",
    "kept and never closed": f"from kloros.chembus.pub import ChemPub\np = ChemPub()\np.{EMIT_ONE}",
    "closed": f"from kloros.chembus.pub import ChemPub\nwith ChemPub() as p: p.{EMIT_ONE}",
    "by the old name": f"from kloros.orchestration.chem_bus_v2 import ChemPub\np = ChemPub()\np.{EMIT_ONE}",
    "and then failing": f"from kloros.chembus.pub import ChemPub\np = ChemPub()\np.{EMIT_ONE}\nraise SystemExit(0)",
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_scripts_only_message_arrives_once(
    kind: str, proxy: Forwarder, endpoints: Endpoints, open_bus: OpenBus, wait_for: WaitFor
) -> None:
    bus = open_bus("hearer", hears=("*",))
    done = run(SCRIPTS[kind], endpoints)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    heard: list[Any] = []
    wait_for(lambda: (heard.extend(bus.receive()), any(m.signal == "HEARTBEAT" for m in heard))[1])
    assert [m.signal for m in heard] == ["Q_TRIGGER_INTROSPECTION", "HEARTBEAT"]
    assert bus.counters.gap == 0


def test_nothing_happens_at_import(endpoints: Endpoints) -> None:
    script = """
import os, threading
before = len(os.listdir("/proc/self/fd"))
import kloros.orchestration.chem_bus_v2, kloros.chembus.proxy
assert threading.active_count() == 1
assert len(os.listdir("/proc/self/fd")) == before
"""
    assert run(script, endpoints).returncode == 0


@pytest.mark.parametrize("with_proxy", [True, False])
def test_a_process_that_closes_nothing_ends(
    with_proxy: bool, endpoints: Endpoints, request: pytest.FixtureRequest
) -> None:
    if with_proxy:
        request.getfixturevalue("proxy")
    script = """
from kloros.chembus.pub import ChemPub
from kloros.chembus.sub import ChemSub
subs = [ChemSub("Q_TRIGGER_X", lambda m: None) for _ in range(2)]
pub = ChemPub()
for _ in range(1000):
    pub.emit("Q_TRIGGER_X", facts={"why": "x" * 1000})
"""
    started_s = time.monotonic()
    done = run(script, endpoints)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started_s < 10
