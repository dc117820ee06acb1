"""The kill switch: a file, or a signal that is remembered. While either holds, nothing is changed. Pure."""

from __future__ import annotations

import msgspec


class Pause(msgspec.Struct, frozen=True):
    """What a person said last. Moments are wall microseconds; `until_us` None: until they say otherwise."""

    is_on: bool = False
    reason: str = ""
    requester: str = ""
    since_us: int = 0
    until_us: int | None = None

    def holds(self, now_us: int) -> bool:
        """Whether nothing may be changed now."""
        return self.is_on and (self.until_us is None or now_us < self.until_us)


def why_paused(pause: Pause, now_us: int, kill_file: str, is_file_there: bool) -> str:
    """Why nothing may be changed; empty when it may. The file is stronger: nobody lifts it over the bus."""
    if is_file_there:
        return f"{kill_file} is there"
    if not pause.holds(now_us):
        return ""
    who = f" by {pause.requester}" if pause.requester else ""
    return f"paused{who}{f': {pause.reason}' if pause.reason else ''}"
