"""Which machine this is."""

from __future__ import annotations

import platform
from pathlib import Path


def host_id(path: Path = Path("/etc/machine-id")) -> str:
    """Text that stays the same on this machine and differs from others: its id, else its name."""
    try:
        return path.read_text(encoding="ascii").strip() or platform.node()
    except (OSError, UnicodeDecodeError):
        return platform.node()
