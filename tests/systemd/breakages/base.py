"""What a way to break a machine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

RUNS = "ExecStart=/bin/sleep infinity"


class Ends(StrEnum):
    """What a finding ends in."""

    FLAG = "flag"
    HELPED = "helped"
    APPROVED = "helped once approved"
    NO_HELP = "no help, flag"

    @property
    def by_itself(self) -> bool:
        """Whether it is over without anybody's mending."""
        return self in (Ends.HELPED, Ends.APPROVED)


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """One way to break a machine.

    gap_name: the finding's, or how it begins. files: path -> text, laid down before; `commands` breaks, in a shell.
    repaired, mending: the same for mending it. rule, concluded, evidence: what is to be concluded; the last two are
    regular expressions, each for one line at least.
    """

    kind: str
    broken: str
    gap_name: str
    gap_type: str = "unit_unhealthy"
    files: Mapping[str, str] = field(default_factory=dict)
    commands: str = ""
    repaired: Mapping[str, str] = field(default_factory=dict)
    mending: str = ""
    concluded: str = ""
    evidence: tuple[str, ...] = ()
    ends: Ends = Ends.FLAG


def unit_file(name: str) -> str:
    return f"/etc/systemd/system/{name}"


def service(text: str, unit: str = "", install: str = "") -> str:
    """A unit file from the lines of its sections."""
    sections = (("Unit", unit), ("Service", text), ("Install", install))
    return "\n".join(f"[{name}]\n{lines}\n" for name, lines in sections if lines)


def broken_unit(
    kind: str,
    broken: str,
    text: str,
    *,
    mended: str | None = RUNS,
    files: Mapping[str, str] | None = None,
    first: str = "",
    then: str = "",
    mending: str = "",
    concluded: str,
    evidence: tuple[str, ...],
    ends: Ends = Ends.FLAG,
) -> Breakage:
    """A service that is started and fails; mended, it runs. first, then: what is done before and after.

    mended: the unit as it is right; None for one that was right all along.
    """
    unit = f"try-{kind.replace(' ', '-').lower()}.service"
    again = f"{mending}\nsystemctl reset-failed {unit} || true\nsystemctl restart --no-block {unit}"
    return Breakage(
        kind=kind,
        broken=broken,
        gap_name=unit,
        files={unit_file(unit): service(text), **(files or {})},
        commands=f"{first}\nsystemctl start --no-block {unit}\n{then.format(unit=unit)}",
        repaired={unit_file(unit): service(mended)} if mended else {},
        mending="" if ends.by_itself else again,
        concluded=concluded,
        evidence=evidence,
        ends=ends,
    )
