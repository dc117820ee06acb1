"""The plain view of a run: one line per signal, for a pipe."""

from __future__ import annotations

from kloros.chembus.envelope import Message
from kloros.cli.output import say, styled
from kloros.cli.running.findings import all_quiet, open_findings
from kloros.cli.running.suite import Suite
from kloros.cli.story.fold import Fold
from kloros.cli.story.narrate import Line, narrate
from kloros.cli.story.picture import Picture
from kloros.cli.units import duration
from kloros.place import Place
from kloros.units import US_PER_S

# The first tick is shown and then every so many-th: often enough to see the pulse, not so often as to drown the rest.
TICKS_FOLDED = 5
# Findings of an earlier run are named once; more than this many are only counted.
OLD_FINDINGS_SHOWN = 10


class PlainView:
    """Prints what passes, as it passes."""

    def __init__(self, suite: Suite, place: Place) -> None:
        self._suite = suite
        self._place = place
        self._fold = Fold(TICKS_FOLDED)
        self._has_named_findings = False
        self._told: set[str] = set()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, message: Message) -> None:
        """One message."""
        if message.signal.startswith("CAPABILITY_"):
            self._told.add(message.facts.gap_id)
        if not self._fold.hides(message):
            self._say(narrate(message))
        if message.signal == "Q_CYCLE_REPORT" and not self._has_named_findings and message.facts.outcome == "ok":
            self._has_named_findings = True
            self._name_findings(message.ts)

    def refresh(self, picture: Picture) -> None:
        """Nothing to draw again."""

    def _name_findings(self, ts: float) -> None:
        """After the first scan: what is still open from earlier runs, or that all is quiet."""
        findings = open_findings(self._suite)
        old = [finding for finding in findings if finding.gap_id not in self._told]
        for finding in old[:OLD_FINDINGS_SHOWN]:
            since = duration(ts - finding.first_seen_us / US_PER_S)
            text = f"still open, for {since}: {finding.summary} [{finding.severity.word}]"
            self._say(Line(ts, text, "", is_reaction=True))
        if len(old) > OLD_FINDINGS_SHOWN:
            self._say(Line(ts, f"and {len(old) - OLD_FINDINGS_SHOWN} more are still open", "", is_reaction=True))
        if not findings:
            self._say(Line(ts, all_quiet(self._place), "green", is_reaction=True))

    def _say(self, line: Line) -> None:
        say(styled(str(line), line.style) if line.style else str(line))
