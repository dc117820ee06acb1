"""`kloros schedule lint`: what is legal in the schedule's file and yet not meant, most likely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.cli.output import JsonOption, as_json, say, styled

if TYPE_CHECKING:
    from kloros.orchestration.lint import Remark
    from kloros.orchestration.schedule_entry import Entry

EXIT_WARNINGS = 1
EXIT_BAD_CONFIG = 2
UNREADABLE = "K001"

FileArgument = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Another file than the suite's.", show_default=False)
]


def lint(
    file: FileArgument = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="Reckon with how long cycles took, by the history of the last day.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print offsets at which no two entries fire together.")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List the codes and end.")] = False,
    json: JsonOption = False,
) -> int:
    """Look for collisions, chains and rules that cannot work, entries that starve. Exit code 0: no warnings."""
    from kloros.orchestration.lint import RULES

    if rules:
        for code, text in {UNREADABLE: "the file cannot be used", **RULES}.items():
            say(f"{code}  {text}")
        return 0
    path = file or suite_schedule()
    from kloros.errors import ConfigError
    from kloros.orchestration.schedule_config import load_schedule

    try:
        config = load_schedule(path)
    except ConfigError as error:
        return _tell_unreadable(path, error, json)
    durations_us = measured_durations_us() if measured else {}
    if plan:
        return _tell_plan(config.entries, durations_us, json)
    from kloros.chembus.vocabulary import VOCABULARY
    from kloros.orchestration.lint import lint as judge

    heard = {signal.name for signal in VOCABULARY if signal.name.startswith("Q_TRIGGER_")}
    moods = emitted_moods()
    remarks = judge(config, durations_us=durations_us, heard_signals=heard, emitted_moods=moods)
    text = path.read_text(encoding="utf-8")
    places = [locate(text, remark.table, remark.key) for remark in remarks]
    if json:
        as_json([{"file": str(path), "line": line, **_fields(r)} for r, line in zip(remarks, places, strict=True)])
    else:
        _tell(path, remarks, places)
    return EXIT_WARNINGS if any(remark.level == "warning" for remark in remarks) else 0


def suite_schedule() -> Path:
    """The schedule's file of the suite meant here."""
    from kloros.place import Place

    return Place.discover().config / "scheduler_config.toml"


def emitted_moods() -> set[str]:
    """The moods that the suite's own affect daemon emits."""
    from kloros.affect.appraisal import MOODS, signal_of

    return {signal_of(feeling) for feeling, _word in MOODS} | {"AFFECT_STATE", "AFFECT_STATE_CHANGE"}


def measured_durations_us() -> dict[str, int]:
    """How long the cycles of each entry took at the most but for one in twenty, over the last day. Raises
    StoreUnusable."""
    from kloros.cli.proving.evidence import cycle_reports
    from kloros.clock import SystemClock
    from kloros.place import Place
    from kloros.units import seconds_to_us

    now_us = SystemClock().wall_us()
    took: dict[str, list[float]] = {}
    for (entry, _daemon), facts in cycle_reports(Place.discover(), now_us - 86_400_000_000, now_us).facts.items():
        took.setdefault(entry, []).extend(each.duration_s for each in facts)
    return {entry: seconds_to_us(sorted(all_s)[int(0.95 * (len(all_s) - 1))]) for entry, all_s in took.items()}


def locate(text: str, table: str, key: str) -> int:
    """The line of a key in a TOML text, of its table where the key is not written there; 1 where neither is. Pure."""
    name, _, number = table.partition("[")
    wanted = int(number.rstrip("]")) if number else 0
    header = re.compile(rf"\s*\[\[?\s*{re.escape(name)}\s*\]?\]")
    found = 0
    table_line, is_inside = 1, False
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            is_match = bool(header.match(line))
            is_inside = is_match and found == wanted
            found += is_match
            if is_inside:
                table_line = line_number
        elif is_inside and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return line_number
    return table_line


def _fields(remark: Remark) -> dict[str, object]:
    return {name: getattr(remark, name) for name in remark.__struct_fields__}


def _tell(path: Path, remarks: Sequence[Remark], lines: Sequence[int]) -> None:
    for remark, line in zip(remarks, lines, strict=True):
        style = "yellow" if remark.level == "warning" else ""
        text = f"{path}:{line}: {remark.code} {remark.level}: {remark.text}"
        say(styled(text, style) if style else text)
    warnings = sum(remark.level == "warning" for remark in remarks)
    if not remarks:
        say(styled(f"{path}: nothing to remark", "green"))
    else:
        notes = len(remarks) - warnings
        say(f"{_count(warnings, 'warning')}, {_count(notes, 'note')} (kloros schedule lint --rules lists the codes)")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tell_unreadable(path: Path, error: Exception, json: bool) -> int:
    key = str(getattr(error, "key", ""))
    table, _, last = key.rpartition(".")
    line = locate(path.read_text(encoding="utf-8", errors="replace"), table or key, last) if path.is_file() else 1
    if json:
        told = {"file": str(path), "line": line, "code": UNREADABLE, "level": "error", "table": table, "key": last}
        as_json([{**told, "text": str(error)}])
    else:
        text = str(error).removeprefix(f"{path}: ")
        say(styled(f"{path}:{line}: {UNREADABLE} error: {text}", "bold red"))
    return EXIT_BAD_CONFIG


def _tell_plan(known: Sequence[Entry], durations_us: dict[str, int], json: bool) -> int:
    import msgspec

    from kloros.orchestration.stagger import collisions, staggered

    before = len(collisions(known, durations_us))
    offsets = staggered(known, durations_us)
    moved = [msgspec.structs.replace(entry, offset_us=offsets[entry.name]) for entry in known]
    after = len(collisions(moved, durations_us))
    if json:
        planned = {name: offset_us / 1e6 for name, offset_us in offsets.items()}
        as_json({"collisions_before": before, "collisions_after": after, "offsets_s": planned})
        return 0
    say(f"# pairs of entries that fire together: {before} now, {after} with these offsets")
    for entry in known:
        say(f"[entries.{entry.name}]  # now {entry.offset_us / 1e6:g}")
        say(f"offset_s = {offsets[entry.name] / 1e6:g}")
    return 0
