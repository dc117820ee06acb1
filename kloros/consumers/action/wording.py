"""What an action would do, and what a person could do instead, in words. Pure."""

from __future__ import annotations

from kloros.consumers.action.action import Action


def would(action: Action) -> str:
    """What the action does."""
    target, asked = action.target, action.parameters
    return {
        "restart_unit": f"restart {target}",
        "reset_failed": f"let {target} start again",
        "raise_limit": f"raise {asked.get('property', 'a limit')} of {target}",
        "vacuum_journal": f"shrink the journal to {asked.get('keep_mb', 'its size to keep')} MB",
        "prune_history": f"shrink the history to {asked.get('keep_mb', 'its size to keep')} MB",
        "pause_entry": f"pause the entry {target} of the schedule",
    }.get(action.kind, f"{action.kind} {target}")


def by_hand(action: Action) -> str | None:
    """How a person does the same."""
    target, asked = action.target, action.parameters
    return {
        "restart_unit": f"systemctl restart {target}",
        "reset_failed": f"systemctl reset-failed {target}; systemctl start {target}",
        "raise_limit": f"systemctl edit {target} (a larger {asked.get('property', 'limit')})",
        "vacuum_journal": f"journalctl --rotate --vacuum-size={asked.get('keep_mb', '1000')}M",
        "prune_history": "a smaller max_size_mib in chembus_historian_config.toml",
        "pause_entry": f"kloros schedule pause {target}",
    }.get(action.kind)


def cure_of(action: Action) -> str | None:
    """What a person could do: what the investigation says, or the same by hand."""
    return action.cure or by_hand(action)
