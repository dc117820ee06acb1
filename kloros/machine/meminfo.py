"""Memory as the kernel counts it (/proc/meminfo)."""

from __future__ import annotations

from pathlib import Path

from kloros.errors import CannotObserve


def read_meminfo(path: Path) -> dict[str, int]:
    """Sizes in KiB by name; MemTotal and MemAvailable are among them. Raises CannotObserve."""
    try:
        sizes_kib = parse_meminfo(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise CannotObserve(f"{path} cannot be read ({error})") from error
    if not sizes_kib.get("MemTotal") or "MemAvailable" not in sizes_kib:
        raise CannotObserve(f"{path} does not tell how much memory is available")
    return sizes_kib


def parse_meminfo(text: str) -> dict[str, int]:
    """Sizes in KiB by name."""
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines()) if rest}
