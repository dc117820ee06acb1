"""The history as the command shows it: which question is asked, and each entry as a line or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kloros.chembus.envelope import Message, Refused, decode
from kloros.chembus.vocabulary import VOCABULARY
from kloros.cli.harmless import harmless
from kloros.cli.moments import parse_moment
from kloros.cli.output import json_line, say, styled
from kloros.cli.story.narrate import narrate
from kloros.cli.units import clock_time, duration, moment
from kloros.errors import UnknownSignal
from kloros.place import Place
from kloros.storage.history_reader import HistoryReader
from kloros.storage.history_rows import Entry, Gap, Record, Wanted

_STEM = "chembus_historian"
_WHY = {
    "lost": "lost on the way",
    "dropped": "dropped: the historian's buffer was full",
    "away": "sent while the historian was away",
    "overrun": "let go by the journal before the historian read them",
    "refused": "came, and was refused (stale, broken or unknown)",
}


def open_history(place: Place | None = None) -> HistoryReader:
    """The history of the suite meant here. Raises StoreUnusable."""
    return HistoryReader((place or Place.discover()).state / _STEM / "state.db")


def question(
    signals: Sequence[str],
    daemons: Sequence[str],
    since: str | None,
    until: str | None,
    incident: str | None,
    now_us: int,
) -> Wanted:
    """The options as a question. A daemon may be named with or without `_daemon`. Raises typer.BadParameter."""
    zooids = [name for daemon in daemons for name in (daemon, f"{daemon.removesuffix('_daemon')}_daemon")]
    return Wanted(
        signals=tuple(signals),
        zooids=tuple(dict.fromkeys(zooids)),
        since_us=None if since is None else parse_moment(since, now_us),
        until_us=None if until is None else parse_moment(until, now_us),
        incident_id=incident,
    )


def message_of(record: Record) -> Message | None:
    """The message as it was; None when this version cannot read it any more."""
    try:
        shape = VOCABULARY.lookup(record.signal).facts
        return decode(record.signal.encode(), record.body, shape)
    except (UnknownSignal, Refused):
        return None


class HistoryPrinter:
    """Prints entries as they come, in columns of fixed width: a history is too long to be measured first."""

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        self._day = ""

    def show(self, entries: Iterable[Entry]) -> int:
        """All of them; returns how many."""
        count = 0
        for entry in entries:
            if self._is_json:
                json_line(as_fields(entry))
            else:
                self._say_heads(entry.ts_us, is_first=not count)
                say(gap_line(entry) if isinstance(entry, Gap) else record_line(entry))
            count += 1
        return count

    def _say_heads(self, ts_us: int, *, is_first: bool) -> None:
        if is_first:
            say(styled(_columns("TIME", "SIGNAL", "DAEMON", "WHAT"), "bold"))
        day = moment(ts_us / 1e6)[:10]
        if day != self._day:
            self._day = day
            say(styled(f"-- {day} --", "dim"))


def _columns(time: str, signal: str, daemon: str, what: str) -> str:
    return f"{time:8}  {signal:28}  {daemon:24}  {what}".rstrip()


def record_line(record: Record) -> str:
    """A message in columns: what it says as the watcher says it, its incident, how many alike ones it stands for."""
    message = message_of(record)
    if message is None:
        what, style = "(not readable by this version)", "dim"
    else:
        line = narrate(message)
        what, style = line.text.removeprefix(harmless(record.signal)).lstrip(" :"), line.style
    notes = [f"incident {harmless(record.incident_id)}"] if record.incident_id else []
    if record.repeats:
        notes.append(f"and {record.repeats} more alike until {clock_time(record.last_us / 1e6)}")
    if notes:
        what = f"{what} <{', '.join(notes)}>".lstrip()
    text = _columns(clock_time(record.ts_us / 1e6), harmless(record.signal), harmless(record.zooid or "-"), what)
    return styled(text, style) if style else text


def gap_line(gap: Gap) -> str:
    """What is missing, in a sentence."""
    if gap.kind == "away" and gap.signal == "*":
        what = f"nobody recorded for {duration((gap.until_us - gap.since_us) / 1e6)}; what passed then is not here"
    else:
        what = f"{gap.missing} missing: {_WHY[gap.kind]}"
    signal, zooid = harmless(gap.signal), harmless(gap.zooid or "-")
    return styled(_columns(clock_time(gap.since_us / 1e6), signal, zooid, f"-- {what} --"), "red")


def as_fields(entry: Entry) -> dict[str, object]:
    """For programs: the message as it was, with `repeats` and `last_ts` where it stands for more; or a gap."""
    if isinstance(entry, Gap):
        span = {"since_ts": entry.since_us / 1e6, "until_ts": entry.until_us / 1e6}
        told = {"kind": entry.kind, "signal": entry.signal, "zooid": entry.zooid, "pub": entry.pub}
        return {"gap": {**told, "missing": entry.missing, **span}}
    fields: dict[str, object] = msgspec.json.decode(entry.body)
    if entry.repeats:
        fields |= {"repeats": entry.repeats, "last_ts": entry.last_us / 1e6}
    return fields
