"""What a daemon has stored, as a verb looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from kloros.place import Place
    from kloros.storage.snapshot import Snapshot


@contextmanager
def stored_by(stem: str, place: Place | None = None) -> Iterator[Snapshot]:
    """The database of the suite's daemon `stem`, as it is now. Raises StoreUnusable, with the cure."""
    from kloros.errors import StoreUnusable
    from kloros.place import Place
    from kloros.storage.snapshot import snapshot

    path = (place or Place.discover()).state / stem / "state.db"
    try:
        is_there = path.exists()
    except PermissionError as error:
        raise StoreUnusable(path=path, reason="you may not look into it; be root or user kloros") from error
    if not is_there:
        unit = f"kloros-{stem.replace('_', '-')}"
        raise StoreUnusable(path=path, reason=f"nothing has been stored yet; is {unit} running?")
    with snapshot(path) as taken:
        yield taken


def one_of(wanted: str, ids: Iterable[str], what: str) -> str:
    """The id that `wanted` is, or is the beginning of. Raises typer.BadParameter when none or several are meant."""
    matches = sorted(each for each in ids if each.startswith(wanted))
    if wanted in matches:
        return wanted
    if not matches:
        raise typer.BadParameter(f"there is no {what} {wanted!r}")
    if len(matches) > 1:
        shown = ", ".join(matches[:5])
        raise typer.BadParameter(f"{wanted!r} is the beginning of {len(matches)} {what}s: {shown} ...")
    return matches[0]
