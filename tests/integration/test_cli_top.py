"""`kloros top` on a real bus, and in a terminal with a person at the keys."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest
from support.command import LIMIT_S, Home, home, running
from support.terminal import Terminal

from kloros.cli.roll_call import EXPECTED

WaitFor = Callable[..., None]


@pytest.fixture(scope="module")
def suite() -> Iterator[Home]:
    with home() as place, running(place):
        assert place.run("bus", "emit", "Q_TRIGGER_AFFECT", "--wait").returncode == 0
        yield place


@pytest.fixture
def place() -> Iterator[Home]:
    """A home whose suite may be ended."""
    with home() as each:
        yield each


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def begin(place: Home, *arguments: str, columns: int = 120, lines: int = 40) -> Terminal:
        opened.append(Terminal(place, *arguments, columns=columns, lines=lines))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def ended_in_order(view: Terminal, wait_for: WaitFor) -> int:
    """Wait for its end; the terminal must be as it was. The exit code."""
    wait_for(lambda: (view.read(), view.process.poll() is not None)[1], LIMIT_S, "its end")
    view.read()
    drawn = view.everything
    assert "Traceback" not in drawn, drawn
    assert drawn.rindex("\x1b[?1049l") > drawn.rindex("\x1b[?1049h")
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert view.is_given_back()
    return view.process.returncode


# For pipes


def test_one_plain_frame_shows_the_suite(suite: Home) -> None:
    done = suite.run("top", "--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for words in ("introspection_scan", "next in", "affect", "wellbeing", "none lost", "curiosity_core_consumer"):
        assert words in done.stdout, words
    assert "silent" not in done.stdout
    assert all(len(line) <= 100 for line in suite.run("top", "--width", "100").stdout.splitlines())


def test_the_frame_as_data(suite: Home) -> None:
    shown = json.loads(suite.run("top", "--json").stdout)
    assert shown["schedule"]["entries"]["introspection_scan"]["interval_s"] == 5.0
    assert {each["zooid"]: each["mode"] for each in shown["daemons"]} == dict.fromkeys(EXPECTED, "normal")
    assert shown["bus"]["rate_hz"] > 0
    assert shown["affect"]["mood"]
    assert isinstance(shown["open"], list)


def test_without_a_bus_it_names_the_cure(place: Home) -> None:
    done = place.run("top")
    assert (done.returncode, done.stdout) == (3, "")
    assert "kloros run" in done.stderr


# In a terminal


def test_keys_pause_trigger_explain_and_quit(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    view = open_terminal(suite, "top")
    wait_for(lambda: "tournament_evaluation" in view.read(), LIMIT_S, "a frame")

    def sees(*words: str) -> None:
        wait_for(lambda: all(word in view.read() for word in words), LIMIT_S, f"{words} in {view.drawn[-2000:]}")
        view.forget()

    view.type("j")
    sees("› semantic_dedup")
    view.type("p")
    sees("semantic_dedup: paused")
    sees("p resumes it")
    view.type("p")
    sees("semantic_dedup: resumed")
    view.type("\x1b[A")
    sees("› introspection_scan")
    view.type("t")
    sees("introspection_scan: ", "news")
    view.type("e")
    sees("explained", "planned every 5.0 s")
    view.type("\x1b")
    view.type("?")
    sees("trigger it now, besides its beats")
    view.type("q")
    assert ended_in_order(view, wait_for) == 0


def test_maintenance_is_begun_and_ended_by_keys(
    place: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    with running(place):
        view = open_terminal(place, "top", columns=80, lines=24)
        wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "a frame")
        view.type("m")
        wait_for(lambda: "y/n" in view.read(), LIMIT_S, "the question")
        view.type("n")
        wait_for(lambda: "nothing was changed" in view.read(), LIMIT_S, "the answer")
        view.type("my")
        wait_for(lambda: "MAINTENANCE until" in view.read(), LIMIT_S, "maintenance")
        view.type("m")
        wait_for(lambda: "Let everything work again" in view.read(), LIMIT_S, "the question")
        view.type("y")

        def is_over() -> bool:
            view.forget()
            wait_for(lambda: "schedule" in view.read() and "q quit" in view.drawn, LIMIT_S, "a frame")
            return "MAINTENANCE" not in view.drawn and "rests" not in view.drawn

        wait_for(is_over, LIMIT_S, "work")


@pytest.mark.parametrize("way", ["\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back_on_every_way_out(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor, way: str | signal.Signals
) -> None:
    view = open_terminal(suite, "top")
    wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "a frame")
    assert not view.is_given_back()
    if isinstance(way, str):
        view.type(way)
    else:
        view.process.send_signal(way)
    assert ended_in_order(view, wait_for) == 0


_BREAKS = """
from rich.text import Text
from kloros.cli.overview.screen import Screen
with Screen() as screen:
    screen.draw([Text("drawn")])
    input()
    raise RuntimeError("a part broke")
"""


def test_the_terminal_is_given_back_when_a_part_breaks(place: Home, wait_for: WaitFor) -> None:
    view = Terminal(place, program=("-c", _BREAKS))
    try:
        wait_for(lambda: "drawn" in view.read(), LIMIT_S, "a frame")
        assert not view.is_given_back()
        view.type("\n")
        wait_for(lambda: "RuntimeError: a part broke" in view.read(), LIMIT_S, "the traceback")
        assert view.process.wait(LIMIT_S) == 1
        assert view.everything.index("\x1b[?1049l") < view.everything.index("RuntimeError")
        assert view.is_given_back()
    finally:
        view.close()


def test_a_window_that_is_closed_ends_it(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    view = open_terminal(suite, "top")
    wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "a frame")
    view.hang_up()
    assert view.process.wait(LIMIT_S) in (0, -signal.SIGHUP)


def test_it_sleeps_with_the_shell_and_wakes_again(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    view = open_terminal(suite, "top")
    wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "a frame")
    view.forget()
    view.process.send_signal(signal.SIGTSTP)
    # An orphaned process group is not stopped; the terminal is given back and taken again all the same.
    wait_for(lambda: "\x1b[?1049l" in view.read(), LIMIT_S, "the terminal given back")
    view.process.send_signal(signal.SIGCONT)
    wait_for(lambda: "introspection_scan" in view.read().partition("\x1b[?1049h")[2], LIMIT_S, "a frame")
    view.type("q")
    assert ended_in_order(view, wait_for) == 0


def test_it_follows_the_size_of_the_terminal(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    view = open_terminal(suite, "top", columns=160, lines=45)
    wait_for(lambda: "affect_sensing" in view.read() and "ago" in view.drawn, LIMIT_S, "a wide frame")
    view.resize(70, 20)
    wait_for(lambda: (view.forget(), view.process.poll() is None)[1], LIMIT_S)
    wait_for(lambda: f"{len(EXPECTED)} normal" in view.read(), LIMIT_S, "a narrow frame")
    view.type("q")
    assert ended_in_order(view, wait_for) == 0


def test_who_may_only_look_changes_nothing(
    suite: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    view = open_terminal(suite, "top", "--read-only")
    wait_for(lambda: "read only" in view.read(), LIMIT_S, "a frame")
    view.type("p")
    wait_for(lambda: "it changes nothing" in view.read(), LIMIT_S, "the refusal")
    entries = json.loads(suite.run("schedule", "show", "--json").stdout)["entries"]
    assert not any(entry["paused"] for entry in entries.values())


def test_a_bus_that_goes_away_is_told_and_its_return_too(
    place: Home, open_terminal: Callable[..., Terminal], wait_for: WaitFor
) -> None:
    with running(place):
        view = open_terminal(place, "top")
        wait_for(lambda: "introspection_scan" in view.read(), LIMIT_S, "a frame")
    wait_for(lambda: "NO BUS for" in view.read(), LIMIT_S, "the loss")
    view.type("t")
    wait_for(lambda: "not sent: there is no bus" in view.read(), LIMIT_S, "the refusal")
    with running(place):
        wait_for(lambda: "the bus is back" in view.read(), LIMIT_S, "the return")
        view.forget()
        wait_for(lambda: f"{len(EXPECTED)} normal" in view.read() or "none lost" in view.drawn, LIMIT_S, "a frame")
        assert "NO BUS" not in view.drawn.rpartition("KLoROS")[2]
        view.type("q")
        assert ended_in_order(view, wait_for) == 0


def test_what_is_open_is_known_from_before(place: Home) -> None:
    place.change("introspection_config.toml", "fill = { medium_percent = 90", "fill = { medium_percent = 1")
    place.change("introspection_config.toml", "leave_percent = 87", "leave_percent = 0")
    place.change("introspection_config.toml", "roomy_free_mib = 20480", "roomy_free_mib = 1_000_000_000")
    place.change("scheduler_config.toml", "interval_s = 5.0", "interval_s = 2.0")
    with running(place) as process:
        assert process.stdout
        for line in process.stdout:
            if "introspection_daemon found" in line:
                break
        shown = json.loads(place.run("top", "--json").stdout)
    assert any(item["kind"] == "finding" for item in shown["open"])


def test_where_the_databases_may_not_be_read_it_shows_what_is_heard(suite: Home) -> None:
    environment = suite.environment
    try:
        suite.environment = {**environment, "KLOROS_STATE_DIR": "/nonexistent"}
        done = suite.run("top", "--once")
    finally:
        suite.environment = environment
    assert (done.returncode, done.stderr) == (0, "")
    assert "introspection_scan" in done.stdout
