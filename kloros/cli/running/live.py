"""The live view of a run, on the alternate screen: what fires, who reacts, what was found."""

from __future__ import annotations

from rich.live import Live

from kloros.chembus.envelope import Message
from kloros.cli.output import console
from kloros.cli.running.findings import open_findings, scanner_names
from kloros.cli.running.keys import Keys
from kloros.cli.running.layout import Scene, draw
from kloros.cli.running.stopping import StopAsked
from kloros.cli.running.suite import Suite
from kloros.cli.story.picture import Picture
from kloros.clock import SystemClock
from kloros.place import Place

# Drawn this often at most, and at least each REDRAW_S for the countdowns.
REDRAW_S = 0.5


class LiveView:
    """Draws the picture anew whenever something was heard or a countdown moved."""

    def __init__(self, suite: Suite, place: Place, stop: StopAsked) -> None:
        self._suite = suite
        self._stop = stop
        self._clock = SystemClock()
        self._console = console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)
        self._keys = Keys()
        self._scanners = scanner_names(place)
        self._zooids = [member.zooid for member in suite.members]
        self._has_news = True
        self._drawn_s = 0.0

    def __enter__(self) -> LiveView:
        self._stop.before_exit = self._give_back
        self._keys.__enter__()
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def show(self, message: Message) -> None:
        """Something was heard: worth drawing, unless it is only the tick."""
        self._has_news |= message.signal != "Q_SCHEDULE_TICK"

    def refresh(self, picture: Picture) -> None:
        """Draw if there is something new to see; hear the keyboard."""
        if "q" in self._keys.typed():
            self._stop.ask()
        now_s = self._clock.monotonic_s()
        if not self._has_news and now_s - self._drawn_s < REDRAW_S:
            return
        self._has_news, self._drawn_s = False, now_s
        scene = Scene(
            picture=picture,
            zooids=self._zooids,
            findings=open_findings(self._suite),
            scanners=self._scanners,
            now_ts=self._clock.wall_us() / 1e6,
        )
        width, height = self._console.size
        self._live.update(draw(scene, width, height), refresh=True)

    def _give_back(self) -> None:
        self._live.stop()
        self._keys.restore()
