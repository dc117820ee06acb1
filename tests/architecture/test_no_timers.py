"""No consumer owns a timer: the scheduler says when, the base falls back, and nothing else paces anybody."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kloros"
ROOMS = ("consumers", "optimisation", "affect")
SOURCES = sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py"))

# Of its loop a consumer may use what hands something over, nothing that knows of time.
LOOP_MAY = {"call_soon"}
TIMERS = {"every", "at_wall", "at_monotonic", "call_later", "call_at", "setitimer", "alarm", "timer", "Timer"}
SLEEPS = {"sleep", "nanosleep"}
SLEEPS_CALLED = {"pause"}
POLLS = {"poll", "select", "epoll", "kqueue", "ppoll"}
MODULES = {"sched", "select", "selectors", "asyncio"}
NAMES = {"threading": {"Timer"}, "time": {"sleep"}, "kloros.clock": {"SystemClock"}, "kloros.daemon.loop": {"Loop"}}
# Waits within a cycle that the beat began, and that end with it. File: how many, and why.
WITHIN_A_CYCLE = {
    "consumers/action_consumer_daemon.py": (1, "an action is watched until it took effect, or its time is up"),
    "consumers/action/kinds/base.py": (1, "the same, by its kind"),
    "optimisation/optimiser_daemon.py": (2, "whether a change took effect is looked at, until its time is up"),
    "optimisation/levers.py": (1, "the same, by its lever"),
}
# A library for programs with a loop of their own; no daemon imports them.
LIBRARY = {"optimisation/optimiser.py", "optimisation/enacting.py"}


def timers_in(source: str) -> list[str]:
    """Everything in a file that waits for a moment of its own choosing: `line: what`."""
    tree = ast.parse(source)
    found: set[tuple[int, str]] = set()
    loops = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.For | ast.While) for inner in ast.walk(node)}
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            found |= {(line, f"import {name.name}") for name in node.names if name.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.split(".")[0] in MODULES:
                found.add((line, f"from {module} import ..."))
            found |= {(line, f"import {name.name}") for name in node.names if name.name in NAMES.get(module, ())}
        elif isinstance(node, ast.Attribute) and node.attr == "loop":
            above = parents.get(id(node))
            if not (isinstance(above, ast.Attribute) and above.attr in LOOP_MAY):
                found.add((line, f"loop.{above.attr}" if isinstance(above, ast.Attribute) else "the loop itself"))
        elif isinstance(node, ast.Attribute) and node.attr in TIMERS | SLEEPS | {"_loop"}:
            found.add((line, f".{node.attr}"))
        elif isinstance(node, ast.Call):
            name = _called(node)
            waits = name == "wait" and isinstance(node.func, ast.Attribute) and bool(node.args or node.keywords)
            gets = name in {"get", "join", "acquire"} and any(each.arg == "timeout" for each in node.keywords)
            if waits or (gets and id(node) in loops) or (name in POLLS and isinstance(node.func, ast.Attribute)):
                found.add((line, f"{name}()"))
            if name in SLEEPS_CALLED or (name in SLEEPS | TIMERS and isinstance(node.func, ast.Name)):
                found.add((line, f"{name}()"))
    return [f"{line}: {what}" for line, what in sorted(found)]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_consumer_owns_a_timer(path: Path) -> None:
    allowed, _why = WITHIN_A_CYCLE.get(str(path.relative_to(PACKAGE)), (0, ""))
    found = timers_in(path.read_text())
    if str(path.relative_to(PACKAGE)) in LIBRARY:
        found = [each for each in found if not each.endswith(("import asyncio", "import SystemClock"))]
    assert len(found) <= allowed, found
    assert not allowed or all(each.endswith(": wait()") for each in found), found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*_daemon.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_daemon_imports_what_brings_a_loop_of_its_own(path: Path) -> None:
    modules = {f"kloros.{name.removesuffix('.py').replace('/', '.')}" for name in LIBRARY}
    imported = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
    assert not modules & imported


def test_there_is_something_to_look_at() -> None:
    assert len([path for path in SOURCES if path.name.endswith("_daemon.py")]) >= 10


@pytest.mark.parametrize(
    "planted",
    [
        "self.loop.every('history', 1.0, f)",
        "self.loop.at_wall('x', 1, f)",
        "self.loop.at_monotonic('x', 1.0, f)",
        "getattr(self.loop, 'every')('x', 1.0, f)",
        "loop = self.loop",
        "every = self.loop.every",
        "daemon._loop.every('x', 1.0, f)",
        "import threading\nthreading.Timer(1.0, f).start()",
        "from threading import Timer as T",
        "import sched",
        "import time\ntime.sleep(1)",
        "from time import sleep as nap",
        "from time import sleep\nsleep(1)",
        "self.clock.sleep(1.0)",
        "from kloros.clock import SystemClock",
        "while True:\n    stopped.wait(1.0)",
        "while not cycle.cancelled.wait(timeout=0.1):\n    work()",
        "def f():\n    return cycle.cancelled.wait(0.002)",
        "import select\nselect.select([], [], [], 1.0)",
        "import selectors",
        "poller.poll(100)",
        "while True:\n    job = queue.get(timeout=1.0)",
        "import asyncio\nasyncio.get_event_loop().call_later(1, f)",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 1)",
    ],
)
def test_whoever_plants_a_timer_is_found(planted: str) -> None:
    assert timers_in(planted), planted


@pytest.mark.parametrize(
    "innocent",
    [
        "self.loop.call_soon(f)",
        "self.held_back.flush_within(1.0)",
        "now_us = self.clock.wall_us()",
        "while cycle.remaining_s > 0 and not cycle.cancelled.is_set():\n    work()",
        "for name in names:\n    table.get(name)",
        "done, busy = wait(futures, timeout=1.0)",
        "' '.join(words)",
        "import signal\nsignal.Signals(9).name",
        "process.communicate(timeout=3)",
    ],
)
def test_who_has_none_is_left_alone(innocent: str) -> None:
    assert timers_in(innocent) == []
