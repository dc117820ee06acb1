"""What keys do: which entry is selected, what is asked, what the pane shows. Pure: says what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Op = Literal["pause", "resume", "trigger", "explain", "rest", "work", "quit"]

KEYS_LINE = "↑↓ select  p pause  t trigger  e explain  m maintenance  ? help  q quit"
READ_ONLY_KEYS_LINE = "read only:  ↑↓ select  e explain  ? help  q quit"
MAINTENANCE_MIN = 30
PAGE = 5
HELP = (
    "↑ ↓, k j      select an entry of the schedule; Home, End, Page keys too",
    "p             pause the selected entry, or resume it",
    "t             trigger it now, besides its beats",
    "e, Enter      why its last beat ran when it did, or why it did not (as kloros why); again or Esc: close",
    f"m             maintenance: everything rests for {MAINTENANCE_MIN} min, or works again; asks first",
    "?             this; again or Esc: close",
    "q, Ctrl-C     quit",
)
_CLOSES = ("escape",)


class Pane(NamedTuple):
    """What is shown under the schedule: the help, or an entry's story."""

    headline: str = ""
    lines: tuple[str, ...] = ()
    entry: str | None = None
    is_help: bool = False


class Wanted(NamedTuple):
    """What a key asks for. `entry` None: it is not about one."""

    op: Op
    entry: str | None = None


class Desk:
    """Hears keys. `entries` are told before each key, as they are shown."""

    def __init__(self, *, read_only: bool = False) -> None:
        self.selected: str | None = None
        self.pane: Pane | None = None
        self.prompt: str | None = None
        self.notice: str | None = None
        self.read_only = read_only
        self._asked: Wanted | None = None

    def know(self, entries: Sequence[str]) -> None:
        """The entries there are; one that has gone is not selected any more."""
        if self.selected not in entries:
            self.selected = entries[0] if entries else None

    def press(self, key: str, entries: Sequence[str], paused: Sequence[str], *, is_resting: bool) -> Wanted | None:
        """A key was pressed; returns what is to be done."""
        self.know(entries)
        if self._asked is not None:
            return self._answered(key)
        self.notice = None
        if self._moved(key, entries):
            return self._explain_again()
        if key in _CLOSES:
            self.pane = None
        elif key == "?":
            self.pane = None if self.pane is not None and self.pane.is_help else Pane(is_help=True)
        elif key == "q":
            return Wanted("quit")
        elif key in ("e", "enter"):
            return self._explain()
        elif key in ("p", "t", "m"):
            return self._change(key, paused, is_resting)
        return None

    def _moved(self, key: str, entries: Sequence[str]) -> bool:
        steps = {"up": -1, "down": 1, "page up": -PAGE, "page down": PAGE, "home": -len(entries), "end": len(entries)}
        if key not in steps or not entries or self.selected is None:
            return False
        index = entries.index(self.selected) + steps[key]
        self.selected = entries[min(len(entries) - 1, max(0, index))]
        return True

    def _explain(self) -> Wanted | None:
        if self.selected is None:
            return None
        if self.pane is not None and self.pane.entry == self.selected:
            self.pane = None
            return None
        return Wanted("explain", self.selected)

    def _explain_again(self) -> Wanted | None:
        """The story follows the selection."""
        is_story = self.pane is not None and self.pane.entry not in (None, self.selected)
        return Wanted("explain", self.selected) if is_story else None

    def _change(self, key: str, paused: Sequence[str], is_resting: bool) -> Wanted | None:
        if self.read_only:
            self.notice = "read only: started with --read-only, it changes nothing"
            return None
        if key == "m":
            self._asked = Wanted("work" if is_resting else "rest")
            question = "Let everything work again" if is_resting else f"Let everything rest for {MAINTENANCE_MIN} min"
            self.prompt = f" {question}? y/n "
            return None
        if self.selected is None:
            return None
        if key == "t":
            return Wanted("trigger", self.selected)
        return Wanted("resume" if self.selected in paused else "pause", self.selected)

    def _answered(self, key: str) -> Wanted | None:
        asked, self._asked, self.prompt = self._asked, None, None
        if key == "y":
            return asked
        self.notice = "nothing was changed"
        return Wanted("quit") if key == "q" else None
