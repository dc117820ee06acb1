"""`kloros doctor`: what is missing on this machine, and the cure."""

from __future__ import annotations

from kloros.cli.output import JsonOption, as_json, say, styled, table

COLUMNS = ("check", "verdict", "what was found", "what to do")
EXIT_NEEDS_CARE = 1
_STYLES = {"good": "green", "note": "cyan", "bad": "bold red"}


def doctor(json: JsonOption = False) -> int:
    """Look at this machine and this suite. Exit code 1 when something needs doing."""
    from kloros.cli.diagnosis.checks import examine
    from kloros.place import Place

    place = Place.discover()
    findings = examine(place)
    is_well = all(finding.verdict != "bad" for finding in findings)
    if json:
        as_json({"ok": is_well, "place": place, "checks": findings})
        return 0 if is_well else EXIT_NEEDS_CARE
    table(
        COLUMNS,
        [(each.name, styled(each.verdict, _STYLES[each.verdict]), each.found, each.cure) for each in findings],
        wordy=2,
    )
    bad = sum(finding.verdict == "bad" for finding in findings)
    say(
        styled("nothing needs doing", "green") if is_well else styled(f"{bad} of {len(findings)} need care", "bold red")
    )
    return 0 if is_well else EXIT_NEEDS_CARE
