"""What introspection of this process holds open, and what it looks at."""

from __future__ import annotations

from kloros.cli.running.suite import Suite
from kloros.config import load_or_default
from kloros.consumers.introspection.findings import BookSnapshot, Finding
from kloros.consumers.introspection.scanners.registry import IntrospectionSettings
from kloros.consumers.introspection_daemon import IntrospectionDaemon
from kloros.daemon.runner import settings_file
from kloros.place import Place


def open_findings(suite: Suite) -> list[Finding]:
    """The open findings, worst first; also those that an earlier run announced."""
    daemon = suite.member(IntrospectionDaemon.zooid).daemon
    snapshot = daemon.store.get("findings", BookSnapshot) if daemon else None
    findings = snapshot.findings if snapshot else []
    return sorted(findings, key=lambda finding: (-finding.severity, finding.first_seen_us))


def scanner_names(place: Place) -> list[str]:
    """What introspection looks at, by its settings."""
    settings = load_or_default(settings_file(place, "introspection"), IntrospectionSettings)
    sections = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return [name.replace("_", " ") for name, section in sections.items() if getattr(section, "enabled", False)]


def all_quiet(place: Place) -> str:
    """What a healthy machine shows."""
    return f"no findings: {', '.join(scanner_names(place))} all quiet"
