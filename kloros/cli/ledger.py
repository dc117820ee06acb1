"""`kloros ledger`: whether the ledger is as it was written, and what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled, table
from kloros.cli.units import duration, moment

if TYPE_CHECKING:
    from kloros.consumers.ledger.check import Report
    from kloros.consumers.ledger.figures import Figures
    from kloros.consumers.ledger.rows import Entry

app = typer.Typer(help="Verify the ledger, and read it.", rich_markup_mode=None, no_args_is_help=True)

EXIT_RED = 1
FAULTS_SHOWN = 20
FIGURES_COLUMNS = ("zooid", ">observations", ">ok", ">mean", ">ok of last 20", ">mean of last 20", "last seen")
ROW_COLUMNS = (">row", "when", "zooid", "signal", "what")
REJECTED_COLUMNS = ("when", "reason", "signal", "detail", "facts")

DatabaseOption = Annotated[
    Path | None, typer.Option("--database", metavar="FILE", help="Another ledger than the suite's.", show_default=False)
]


@app.command()
def verify(
    database: DatabaseOption = None,
    key_file: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The key that signed it.", show_default=False)
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="ROW:HASH", help="An end that the log noted (event ledger_ends): that row must be there."),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Verify every row, the chain and the end. Exit code 0: as it was written; 1: it is not, and where."""
    from kloros.consumers.ledger.check import verify as check
    from kloros.consumers.ledger.keys import read_key
    from kloros.consumers.ledger.rows import Row, Signed
    from kloros.storage.ledger_store import read_only

    noted = None if end is None else _noted(end)
    path = database or _suite_ledger()
    key = read_key(key_file or _key_file(path, is_suite=database is None))
    with read_only(path) as reader:
        head = reader.head()
        report = check(
            key,
            Signed(*head) if head else None,
            [(number, Signed(*signed)) for number, signed in reader.segments()],
            (Row(*row) for row in reader.rows()),
            noted,
            _progress,
        )
    _clear_progress()
    if json:
        as_json({"ok": report.ok, "ledger": str(path), **_fields(report)})
    else:
        _tell(report, path)
    return 0 if report.ok else EXIT_RED


@app.command()
def show(
    zooid: Annotated[str | None, typer.Option(metavar="NAME", help="Only this zooid.")] = None,
    signal: Annotated[str | None, typer.Option(metavar="NAME", help="Only rows of this signal.")] = None,
    last: Annotated[int, typer.Option(metavar="N", help="How many rows.", min=0, max=100_000)] = 10,
    rejected: Annotated[bool, typer.Option("--rejected", help="What was rejected instead, and why.")] = False,
    database: DatabaseOption = None,
    json: JsonOption = False,
) -> int:
    """Show each zooid's figures and the newest rows. What it shows is not verified."""
    import msgspec

    from kloros.consumers.ledger.figures import Figures
    from kloros.storage.ledger_store import read_only

    with read_only(database or _suite_ledger()) as reader:
        if rejected:
            return _show_rejected(reader.rejected(last), json)
        figures = [msgspec.json.decode(body, type=Figures) for body in reader.figures()]
        rows = [(row[0], _entry(row[4])) for row in reader.last_rows(last, zooid=zooid, signal=signal)]
        counts = {"rows": reader.row_count(), "rejected": reader.rejected_count()}
    figures = [each for each in figures if zooid in (None, each.zooid)]
    if json:
        shown = [{"row": number, "entry": entry} for number, entry in rows]
        as_json({**counts, "figures": [_figures_fields(each) for each in figures], "entries": shown})
        return 0
    if figures:
        table(FIGURES_COLUMNS, [_figures_row(each) for each in figures])
        say("")
    if rows:
        table(ROW_COLUMNS, [_row(number, entry) for number, entry in rows])
    say(f"{counts['rows']} rows, {counts['rejected']} rejected (kloros ledger show --rejected)")
    return 0


# Verifying


def _suite_ledger() -> Path:
    from kloros.place import Place

    return Place.discover().state / "ledger_writer" / "state.db"


def _key_file(path: Path, *, is_suite: bool) -> Path:
    """The key that the suite's settings name, or the one beside the ledger."""
    from kloros.config import load_or_default
    from kloros.consumers.ledger.keys import LEDGER_KEY
    from kloros.consumers.ledger.recorder import LedgerSettings
    from kloros.place import Place

    settings_file = Place.discover().config / "ledger_writer_config.toml"
    named = load_or_default(settings_file, LedgerSettings).keys.ledger_file if is_suite else ""
    return Path(named) if named else path.with_name(LEDGER_KEY)


def _noted(end: str) -> tuple[int, str]:
    match = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", end)
    if match is None:
        raise typer.BadParameter(f"{end!r} is not ROW:HASH, as in the log's event ledger_ends")
    return int(match[1]), match[2]


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} of {of:,} rows verified", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _fields(report: Report) -> dict[str, object]:
    return {name: getattr(report, name) for name in report.__struct_fields__}


def _tell(report: Report, path: Path) -> None:
    released = f", {report.released_rows} more were released" if report.released_rows else ""
    segments = "1 segment" if report.segments == 1 else f"{report.segments} segments"
    extent = f"{report.rows} rows in {segments}{released}"
    if report.ok:
        say(styled(f"green: {path} is as it was written: {extent}", "green"))
        if report.last_row:
            say(f"it ends with row {report.last_row}, {report.head_hash}")
        return
    say(styled(f"red: {path} is not as it was written: {report.fault_count} faults ({extent})", "bold red"))
    for fault in report.faults[:FAULTS_SHOWN]:
        say(f"  {fault.kind}: {fault.detail}")
    if report.fault_count > FAULTS_SHOWN:
        say("  there are more; --json lists up to a thousand")


# Showing


def _entry(body: bytes) -> Entry | None:
    import msgspec

    from kloros.consumers.ledger.rows import Entry

    try:
        return msgspec.json.decode(body, type=Entry)
    except msgspec.MsgspecError:
        return None


def _row(number: int, entry: Entry | None) -> tuple[str, ...]:
    if entry is None:
        return str(number), "-", "-", "-", styled("cannot be read: kloros ledger verify", "bold red")
    return str(number), moment(entry.ts), entry.zooid, entry.signal, _facts_text(entry.facts)


def _facts_text(facts: object) -> str:
    if not isinstance(facts, dict):
        return str(facts)
    shown = (f"{name}={value}" for name, value in facts.items() if name not in ("ts", "zooid", "sig"))
    return " ".join(shown).replace("\n", " ")


def _figures_fields(figures: Figures) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(figures, name) for name in figures.__struct_fields__}
    return fields | {"window_ok_rate": figures.window_ok_rate, "window_ttr_ms_mean": figures.window_ttr_ms_mean}


def _figures_row(figures: Figures) -> tuple[str, ...]:
    return (
        figures.zooid if figures.known else styled(f"{figures.zooid} (unknown)", "yellow"),
        str(figures.observations),
        _share(figures.ok_rate),
        _mean(figures.ttr_ms_mean),
        _share(figures.window_ok_rate),
        _mean(figures.window_ttr_ms_mean),
        "-" if figures.last_ts is None else moment(figures.last_ts),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _mean(ttr_ms: float | None) -> str:
    return "-" if ttr_ms is None else duration(ttr_ms / 1e3)


def _show_rejected(rejections: list[tuple[str, str, str, str, bytes, int]], json: bool) -> int:
    if json:
        names = ("source", "signal", "reason", "detail", "facts", "heard_us")
        as_json([dict(zip(names, (*each[:4], each[4].decode(), each[5]), strict=True)) for each in rejections])
        return 0
    table(
        REJECTED_COLUMNS,
        [
            (moment(heard_us / 1e6), reason, signal, detail, body.decode())
            for _, signal, reason, detail, body, heard_us in rejections
        ],
    )
    return 0
