"""What a log line looks like on a terminal, whatever others wrote into it."""

from __future__ import annotations

import io

import pytest

from kloros.telemetry.logs import configure_logging, get_logger

WILD = ("\x1b[2J", "\x1b]0;pwned\x07", "eve\n2026-01-01 00:00:00 [info ] all_is_well", "\x9b2J", "a\u202eb", "\r")


@pytest.fixture
def terminal() -> io.StringIO:
    shown = io.StringIO()
    configure_logging("terminal", stream=shown)
    return shown


def uncoloured(shown: io.StringIO) -> str:
    """The text without the renderer's own colours."""
    text = shown.getvalue()
    for code in ("0", "1", "2", "31", "32", "33", "35", "36"):
        text = text.replace(f"\x1b[{code}m", "")
    return text


@pytest.mark.parametrize("wild", WILD)
def test_a_value_keeps_to_its_line_and_is_spelled_out(wild: str, terminal: io.StringIO) -> None:
    get_logger(zooid="x").warning("killed_by_governance", requester=wild, reason="all is well")
    (line,) = uncoloured(terminal).split("\n")[:-1]
    assert line.isprintable()
    assert f"requester={wild!r}" in line
    assert "reason='all is well'" in line
    assert "zooid=x" in line


@pytest.mark.parametrize("wild", WILD)
def test_an_event_keeps_to_its_line(wild: str, terminal: io.StringIO) -> None:
    get_logger().info(f"said {wild}")
    (line,) = uncoloured(terminal).split("\n")[:-1]
    assert line.isprintable()


@pytest.mark.parametrize("wild", WILD)
def test_a_traceback_keeps_its_lines_and_nothing_else_in_it_moves_the_cursor(wild: str, terminal: io.StringIO) -> None:
    try:
        raise ValueError(wild)
    except ValueError:
        get_logger().exception("failed")
    lines = uncoloured(terminal).split("\n")
    assert "Traceback (most recent call last):" in lines
    assert all(line.isprintable() for line in lines)
