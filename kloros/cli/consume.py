"""`kloros consume`: run a daemon of one's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kloros.errors import NotAConsumer

if TYPE_CHECKING:
    from kloros.daemon.consumer import Consumer

SYSTEM_CONSUMERS_DIR = Path("/etc/kloros/consumers")


def consume(
    target: Annotated[str, typer.Argument(metavar="MODULE:CLASS", help="For instance disk_report:DiskReport.")],
) -> int:
    """Run your own Consumer as this process.

    The module is looked for in the working directory, in $KLOROS_CONSUMERS_DIR, in /etc/kloros/consumers, and where
    Python always looks; where a package of it is staged and in force (`kloros module`), it comes from there.
    """
    from kloros.daemon.packages import put_in_force
    from kloros.daemon.runner import begin, main
    from kloros.storage.artifacts import artifacts_under
    from kloros.telemetry.logs import get_logger

    _make_importable()
    place, _suite = begin()
    root, module = artifacts_under(place.suite_state), target.partition(":")[0]
    package = put_in_force(root, module, get_logger(target=target))
    return main(load_consumer(target), package.name if package else None)


def _make_importable() -> None:
    named = os.environ.get("KLOROS_CONSUMERS_DIR")
    for directory in (str(SYSTEM_CONSUMERS_DIR), named, str(Path.cwd())):
        if directory and directory not in sys.path:
            sys.path.insert(0, directory)


def load_consumer(target: str) -> type[Consumer]:
    """The class that `target` names; raises NotAConsumer saying what is wrong with it."""
    import importlib
    import inspect

    from kloros.daemon.consumer import Consumer

    module_name, colon, class_name = target.partition(":")
    if not (module_name and colon and class_name):
        raise NotAConsumer(target=target, reason="write it as package.module:Class")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NotAConsumer(target=target, reason=_not_found(module_name, error)) from None
    except Exception as error:
        raise NotAConsumer(target=target, reason=f"importing it failed: {_located(error)}") from error
    found = getattr(module, class_name, None)
    if found is None:
        theirs = [name for name, each in vars(module).items() if inspect.isclass(each) and issubclass(each, Consumer)]
        offered = ", ".join(name for name in theirs if name != "Consumer") or "none"
        reason = f"{module_name} has no {class_name} (its consumers: {offered})"
        raise NotAConsumer(target=target, reason=reason)
    if not (inspect.isclass(found) and issubclass(found, Consumer)):
        raise NotAConsumer(target=target, reason="that is no class derived from kloros.daemon.consumer.Consumer")
    missing = [name for name in ("schedule", "signal", "interval_s") if not hasattr(found, name)]
    if missing:
        raise NotAConsumer(target=target, reason=f"the class must set {', '.join(missing)}")
    if found.cycle is Consumer.cycle:
        raise NotAConsumer(target=target, reason="the class must have a method cycle(self, cycle)")
    return found


def _not_found(module_name: str, error: ModuleNotFoundError) -> str:
    if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
        return f"importing it failed: it needs {error.name}, which is not installed"
    return (
        f"there is no module {module_name} in {Path.cwd()}, $KLOROS_CONSUMERS_DIR, {SYSTEM_CONSUMERS_DIR} or sys.path"
    )


def _located(error: Exception) -> str:
    """The error with the file and line it came from: the traceback's last word."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {error}{where}"
