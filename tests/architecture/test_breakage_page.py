"""docs/breakage.md tells of the breakages that are tested, and of each of them."""

from __future__ import annotations

from pathlib import Path

from tests.systemd.breakages import BREAKAGES
from tests.systemd.breakages.page import kinds_in

PAGE = Path(__file__).parents[2] / "docs" / "breakage.md"


def test_the_page_tells_of_each_breakage_that_is_tested() -> None:
    assert kinds_in(PAGE.read_text()) == [breakage.kind for breakage in BREAKAGES]


def test_the_page_says_how_each_was_made() -> None:
    page = PAGE.read_text()
    assert [breakage.kind for breakage in BREAKAGES if breakage.broken.replace("|", "/") not in page] == []
