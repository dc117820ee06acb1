"""Structured logs: native journal fields under systemd, colour on a terminal, JSON lines elsewhere.

An event is a snake_case name with fields. In the journal each field becomes KLOROS_<FIELD>, so that
`journalctl KLOROS_SIGNAL=Q_TRIGGER_CURIOSITY` or `KLOROS_EVENT=beat` finds it.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog
from logging_journald import JournaldTransport, check_journal_stream
from structlog.typing import ExcInfo, FilteringBoundLogger, Processor

LogMode = Literal["auto", "journal", "terminal", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# A journald that does not take a line within this time loses the line, not the daemon.
_JOURNAL_SEND_TIMEOUT_S = 0.2
_SYSLOG_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_TOLD_AS_THEY_ARE = ("event", "level", "timestamp", "logger", "logger_name")  # the renderer does not look at them
_OF_MANY_LINES = ("exception", "stack")
_NOT_A_FIELD_CHARACTER = re.compile(r"[^A-Z0-9_]")


def get_logger(**fields: object) -> FilteringBoundLogger:
    """A logger that puts `fields` on every line."""
    return cast(FilteringBoundLogger, structlog.get_logger(**fields))


def configure_logging(mode: LogMode = "auto", level: LogLevel = "info", stream: TextIO | None = None) -> LogMode:
    """Set up logging for this process; returns the mode that `auto` came to. Called by composition roots only."""
    stream = stream or sys.stderr
    resolved = _resolve(stream) if mode == "auto" else mode
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=resolved == "json"),
            *_renderers(resolved),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_JournalLoggers() if resolved == "journal" else structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    return resolved


def _resolve(stream: TextIO) -> LogMode:
    if check_journal_stream():
        return "journal"
    return "terminal" if stream.isatty() else "json"


def _renderers(mode: LogMode) -> list[Processor]:
    if mode == "journal":
        return [structlog.processors.format_exc_info, _to_journal_fields]
    if mode == "terminal":
        return [_quote, structlog.dev.ConsoleRenderer(exception_formatter=_plain_traceback, pad_event_to=20)]
    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]


class _Quoted:
    """Text as the renderer shows what is no text: with every character that could move a cursor spelled out."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _quote(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What others wrote stays on its line of the terminal, and on that line's own place."""
    for key, value in event.items():
        if not isinstance(value, str) or value.isprintable():
            continue
        if key in _TOLD_AS_THEY_ARE:
            event[key] = _spelled_out(value, keeping="")
        elif key in _OF_MANY_LINES:
            event[key] = _spelled_out(value)
        else:
            event[key] = _Quoted(value)
    return event


def _plain_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    told = io.StringIO()
    structlog.dev.plain_traceback(told, exc_info)
    stream.write(_spelled_out(told.getvalue()))


def _spelled_out(text: str, keeping: str = "\n") -> str:
    return "".join(each if each.isprintable() or each in keeping else repr(each)[1:-1] for each in text)


def _to_journal_fields(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> tuple[tuple[()], dict[str, dict[str, Any]]]:
    """The line as journal fields; MESSAGE stays a line that reads well on its own."""
    event.pop("timestamp", None)  # the journal stamps its own
    level = event.pop("level", "info")
    name = event.pop("event")
    trace = event.pop("exception", None)
    shown = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
    message = f"{name} {shown}" if shown else str(name)
    fields: dict[str, Any] = {
        "MESSAGE": f"{message}\n{trace}" if trace else message,
        "PRIORITY": _SYSLOG_PRIORITY.get(level, 6),
        "SYSLOG_IDENTIFIER": "kloros",
        "KLOROS_EVENT": str(name),
    }
    for key, value in event.items():
        if value is not None:
            fields["KLOROS_" + _NOT_A_FIELD_CHARACTER.sub("_", key.upper())] = str(value)
    return (), {"fields": fields}


class JournalLogger:
    """Sends finished journal fields; a line the journal cannot take is counted in `lost_lines`, never waited for."""

    def __init__(self, transport: JournaldTransport) -> None:
        self._transport = transport
        self.lost_lines = 0

    def msg(self, *, fields: dict[str, Any]) -> None:
        try:
            self._transport.send(fields.items())
        except OSError:
            self.lost_lines += 1

    debug = info = warning = error = critical = exception = log = msg


class _JournalLoggers:
    """structlog's logger factory for the journal: one socket for the process."""

    def __init__(self) -> None:
        transport = JournaldTransport(connected=False)
        transport.socket.settimeout(_JOURNAL_SEND_TIMEOUT_S)
        self._logger = JournalLogger(transport)

    def __call__(self, *_args: object) -> JournalLogger:
        return self._logger
