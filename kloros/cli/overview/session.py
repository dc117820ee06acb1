"""The watch: hears the bus and the keyboard, draws twice a second, does what keys ask for."""

from __future__ import annotations

from typing import Any

import msgspec

from kloros.chembus.envelope import Message
from kloros.chembus.facts import ChangedFacts, ControlFacts, ResumeFacts, StatusRequestFacts, SuspendFacts
from kloros.cli.client import CONTROL_TIMEOUT_S, Client, requester
from kloros.cli.overview.desk import MAINTENANCE_MIN, Desk, Pane, Wanted
from kloros.cli.overview.keyboard import KeyReader
from kloros.cli.overview.layout import Scene, draw
from kloros.cli.overview.remembered import recall
from kloros.cli.overview.screen import Screen
from kloros.cli.overview.state import Overview
from kloros.cli.roll_call import PROXY
from kloros.cli.running.stopping import StopAsked
from kloros.errors import BusError, KlorosError

# Drawn this often; a key is answered at once.
REDRAW_S = 0.5
# Until there is something to see, more often.
FIRST_REDRAW_S = 0.05
# The proxy is asked this often how much it forwarded.
ASK_PROXY_S = 4.0
NOTICE_S = 6.0
REASON = "kloros top"


class Watch:
    """One person looking at the suite, on a client that hears TOPICS."""

    def __init__(self, client: Client, *, read_only: bool = False) -> None:
        self.known = Overview()
        self.desk = Desk(read_only=read_only)
        self.is_over = False
        self._client = client
        self._keys = KeyReader()
        self._away_since_ts: float | None = None
        self._request_id: str | None = None
        self._request_until_s = 0.0
        self._notice_until_s = 0.0
        self._ask_proxy_at_s = 0.0
        self._told_beat: int | None = None
        client.on_bus_change = self._note_bus

    def begin(self) -> None:
        """Learn what is so far, and ask everyone how they are."""
        recall(self.known, self._client.place)
        self._ask()

    def run(self, screen: Screen, stop: StopAsked) -> None:
        """Until somebody wants to stop, or the terminal has gone."""
        if screen.keyboard is not None:
            self._client.wake_on(screen.keyboard)
        draw_at_s = 0.0
        while not (stop or self.is_over or screen.is_gone):
            now_s = self._client.clock.monotonic_s()
            if self.press(screen.typed()) or now_s >= draw_at_s:
                draw_at_s = now_s + (REDRAW_S if self.known.tick else FIRST_REDRAW_S)
                screen.draw(draw(self.scene(), *screen.size))
            self._client.wait(max(0.01, draw_at_s - self._client.clock.monotonic_s()))
            self.hear()
            screen.step_aside()

    def gather(self, limit_s: float, rate_after_s: float) -> None:
        """Listen until everything was heard once and the bus's rate is known, at most so long."""
        begun_s = self._client.clock.monotonic_s()
        self._ask_proxy_at_s = begun_s + rate_after_s
        while (left_s := begun_s + limit_s - self._client.clock.monotonic_s()) > 0:
            self._client.wait(min(left_s, 0.1))
            self.hear()
            if self.known.is_whole and self.known.bus.rate_hz is not None:
                break

    def hear(self) -> None:
        """Take in what has arrived."""
        for message in self._client.take():
            self.known.add(message)
            self._note_answer(message)
        now_s = self._client.clock.monotonic_s()
        if self._request_id is not None and now_s > self._request_until_s:
            self._request_id = None
            self._notice(f"the scheduler did not answer within {CONTROL_TIMEOUT_S:g} s")
        if self.desk.notice is not None and now_s > self._notice_until_s:
            self.desk.notice = None
        if now_s >= self._ask_proxy_at_s and self._away_since_ts is None:
            self._ask(PROXY)
        self._follow_story()

    def press(self, typed: str) -> bool:
        """Hear what was typed; returns whether it was any key."""
        keys = self._keys.keys(typed)
        for key in keys:
            before = self.desk.notice
            wanted = self.desk.press(key, self.known.entries, self._paused(), is_resting=self._is_resting())
            if self.desk.notice is not None and self.desk.notice != before:
                self._notice(self.desk.notice)
            if wanted is not None:
                self._do(wanted)
        return bool(keys)

    def scene(self) -> Scene:
        """What there is to draw."""
        self.desk.know(self.known.entries)
        return Scene(
            known=self.known,
            now_ts=self._client.now_ts(),
            selected=self.desk.selected,
            pane=self.desk.pane,
            prompt=self.desk.prompt,
            notice=self.desk.notice,
            away_since_ts=self._away_since_ts,
            read_only=self.desk.read_only,
        )

    def _do(self, wanted: Wanted) -> None:
        if wanted.op == "quit":
            self.is_over = True
        elif wanted.op == "explain" and wanted.entry is not None:
            self._explain(wanted.entry)
        elif wanted.op in ("rest", "work"):
            until_ts = self._client.now_ts() + MAINTENANCE_MIN * 60
            suspend = SuspendFacts(reason=REASON, requester=requester(), until_ts=until_ts)
            resume = ResumeFacts(reason=REASON, requester=requester())
            is_rest = wanted.op == "rest"
            if self._emit("MAINTENANCE_SUSPEND" if is_rest else "MAINTENANCE_RESUME", suspend if is_rest else resume):
                self._notice("maintenance was asked for" if is_rest else "the end of maintenance was asked for")
        else:
            told = {"op": wanted.op, "schedule": wanted.entry, "requester": requester()}
            self._request_id = self._emit("Q_SCHEDULE_CONTROL", msgspec.convert(told, ControlFacts))
            if self._request_id is not None:
                self._request_until_s = self._client.clock.monotonic_s() + CONTROL_TIMEOUT_S
                self._notice(f"{wanted.op} {wanted.entry} ...")

    def _explain(self, entry: str) -> None:
        import typer

        from kloros.cli.proving.story import story_of

        self._told_beat = self._last_beat(entry)
        try:
            story = story_of(self._client.place, entry, self._client.clock.wall_us())
        except (KlorosError, typer.BadParameter) as error:
            self.desk.pane = Pane(entry, tuple(self._known_of(entry, str(error))), entry)
        else:
            self.desk.pane = Pane(story.headline, tuple(story.lines), entry)

    def _known_of(self, entry: str, lack: str) -> list[str]:
        """What was heard live of an entry whose record may not be read."""
        tick = self.known.tick
        why = tick.entries[entry].why if tick and entry in tick.entries else None
        return [*([why] if why else []), f"there is no more to tell: {lack}"]

    def _follow_story(self) -> None:
        """The story is that of the latest beat."""
        pane = self.desk.pane
        if pane is not None and pane.entry is not None and self._last_beat(pane.entry) != self._told_beat:
            self._explain(pane.entry)

    def _last_beat(self, entry: str) -> int | None:
        """The beat whose end was heard last."""
        ran = self.known.ran.get(entry)
        return ran.beat if ran is not None else None

    def _note_answer(self, message: Message) -> None:
        answer = message.facts
        if isinstance(answer, ChangedFacts) and answer.request_id == self._request_id is not None:
            self._request_id = None
            verb = "" if answer.ok else f"refused to {answer.op.replace('_', ' ')}: "
            self._notice(f"{answer.schedule or 'scheduler'}: {verb}{answer.detail or answer.op}")

    def _note_bus(self, is_joined: bool) -> None:
        if is_joined:
            self._away_since_ts = None
            recall(self.known, self._client.place)
            self._ask()
            self._notice("the bus is back")
        else:
            self._away_since_ts = self._client.now_ts()

    def _ask(self, zooid: str | None = None) -> None:
        self._ask_proxy_at_s = self._client.clock.monotonic_s() + ASK_PROXY_S
        self._emit("STATUS_REQUEST", StatusRequestFacts(zooid=zooid, requester=requester()))

    def _emit(self, signal: str, facts: Any) -> str | None:
        """Send it; tells why when it could not go out."""
        try:
            return self._client.emit(signal, facts)
        except BusError:
            self._notice("not sent: there is no bus")
            return None

    def _notice(self, text: str) -> None:
        self.desk.notice = text
        self._notice_until_s = self._client.clock.monotonic_s() + NOTICE_S

    def _paused(self) -> list[str]:
        tick = self.known.tick
        return [name for name, entry in tick.entries.items() if entry.paused and not entry.held] if tick else []

    def _is_resting(self) -> bool:
        tick = self.known.tick
        return tick is not None and tick.maintenance
